//! How many rows a page of the list reads: no more for a large table than for a small one.

use order::order::{Order, Status};
use order::settings::Settings;
use order::stores::{PAGE_BYTES, PAGE_ROWS};
use serde_json::Value;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::laws::{fresh_client, many_orders};
use super::postgres_orders::PostgresOrders;
use super::real::{settings, variable};

/// More than a page may read.
const MANY: usize = 3 * PAGE_ROWS;
const LIMIT: i64 = 20;

/// The rows of `orders` that the nodes of a plan have read, including those that a filter discarded.
fn rows_read(plan: &Value) -> f64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let own = number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    // A bitmap of an index has no relation.
    let is_scan = plan["Index Name"].is_string() || plan["Relation Name"] == "orders";
    let below: f64 = plan["Plans"].as_array().into_iter().flatten().map(rows_read).sum();
    below + if is_scan { own * number("Actual Loops") } else { 0.0 }
}

/// Lets the planner learn that one customer has many orders. It may then expect to find some of them anywhere.
async fn analyze() {
    let url = std::env::var("DATABASE_URL").expect("run this through `make test`");
    let (owner, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    owner.batch_execute("ANALYZE orders").await.unwrap();
}

/// Counted by PostgreSQL. None of the newest orders belongs to the first customer.
#[tokio::test]
async fn a_page_reads_a_bounded_number_of_rows_whatever_the_filters() {
    let settings: Settings = settings(&variable("redis_address"), &variable("pg_address"));
    let (orders, client) = (PostgresOrders::new(&settings, false), fresh_client());
    let mut all = many_orders(3 * MANY);
    all.iter_mut().skip(2 * MANY).for_each(|order: &mut Order| order.placed.customer_id = "c-43".into());
    orders.place_many(&client, &all).await;
    analyze().await;
    let session = orders.patient_session().await;
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) {}", include_str!("../../src/spin/sql/list_orders.sql"));
    for customer_id in [None, Some("c-42"), Some("c-43"), Some("nobody")] {
        for status in [None, Some(Status::Created), Some(Status::Confirmed)] {
            for key in [None, Some("00000007"), Some("no such key")] {
                for before in [Uuid::max(), all[2 * MANY - 500].id, all[1].id] {
                    let status = status.map(Status::as_str);
                    let row = session
                        .query_one(
                            &explain,
                            &[
                                &customer_id,
                                &status,
                                &key,
                                &before,
                                &LIMIT,
                                &(PAGE_BYTES as i64),
                                &client.as_str(),
                                &(PAGE_ROWS as i64),
                            ],
                        )
                        .await
                        .unwrap();
                    let plan: Value = row.get(0);
                    let read = rows_read(&plan[0]["Plan"]);
                    let most = match (customer_id, status, key) {
                        (Some(_), Some(_), None) => 2.0 * PAGE_ROWS as f64,
                        (_, _, None) => LIMIT as f64 + 1.0,
                        // Once in a bitmap, and once in the table.
                        (_, _, Some(_)) => 2.0,
                    };
                    assert!(read <= most, "{customer_id:?} {status:?} {key:?} {before}: {read} rows: {plan:#}");
                }
            }
        }
    }
}
