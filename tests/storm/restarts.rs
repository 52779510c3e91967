//! A rolling update: the hosts restart one after another under load. SIGTERM cuts requests in flight, and a retry settles them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use crate::service::{Host, client, cut, owner, setting};

const CLIENTS: usize = 16;

#[derive(Default)]
struct Counts {
    /// Sent, and the client got nothing, or the empty `500` or the `503` of a host that ends.
    cut: AtomicUsize,
    /// Not even connected: the client tried the other host.
    refused: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing_and_places_nothing_twice() {
    let rounds = setting("RESTARTS", 3);
    let mut hosts = [Host::start("restarts-1", None, &[]).await, Host::start("restarts-2", None, &[]).await];
    let urls = hosts.each_ref().map(|host| host.url.clone());
    let customer = format!("restarts-{}", fastrand::u32(..));
    let body = format!(
        r#"{{"customerId":"{customer}","currency":"RUB","items":[{{"sku":"S","quantity":1,"unitAmount":1}}]}}"#
    );
    let (http, counts, over) = (client(), Counts::default(), AtomicBool::new(false));

    // Sends one order until it is answered, each time to the next host; returns its id.
    let place = async |key: &str| -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        for url in urls.iter().cycle().skip(fastrand::usize(..2)) {
            let request = http.post(format!("{url}/orders")).header("Idempotency-Key", key);
            let request = request.header("Content-Type", "application/json").body(body.clone());
            let answer = async {
                let answer = request.send().await?;
                Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
            };
            let count = match answer.await {
                Err(error) if error.is_connect() => &counts.refused,
                Err(error) => {
                    cut(error);
                    &counts.cut
                }
                Ok((201, order)) => {
                    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
                    return order["orderId"].as_str().unwrap().into();
                }
                // Spin's own, for an instance that ended.
                Ok((500, text)) if text.is_empty() => &counts.cut,
                // A host that ends closes its PostgreSQL sessions first.
                Ok((503, _)) => &counts.cut,
                Ok((status, text)) => panic!("{status} {text}"),
            };
            count.fetch_add(1, Ordering::SeqCst);
            assert!(Instant::now() < deadline, "{key} does not settle");
        }
        unreachable!("the hosts never end")
    };
    let go_on = async |number: usize| {
        let mut placed = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let key = format!("{customer}-{number}-{}", placed.len());
            let id = place(&key).await;
            placed.push((key, id));
        }
        placed
    };
    let clients = stream::iter(0..CLIENTS).map(go_on).buffer_unordered(CLIENTS).collect::<Vec<_>>();
    let restarts = async {
        for _ in 0..rounds {
            for host in &mut hosts {
                host.restart().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let (placed, ()) = futures::join!(clients, restarts);

    let acknowledged: BTreeMap<_, _> = placed.into_iter().flatten().collect();
    let sql = "SELECT idempotency_key, order_id::text FROM orders WHERE customer_id = $1";
    let rows = owner().await.query(sql, &[&customer]).await.unwrap();
    let count = rows.len();
    let kept: BTreeMap<String, String> = rows.into_iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(kept.len(), count, "a key has two orders");
    assert_eq!(kept, acknowledged);
    assert!(hosts.iter().all(|host| host.traps().is_empty()));
    let (cut, refused) = (counts.cut.into_inner(), counts.refused.into_inner());
    assert!(cut + refused > 0, "no restart was noticed");
    println!(
        "restarts: {} by SIGTERM under {CLIENTS} clients: {count} orders, {cut} requests cut, {refused} connections refused; \
         after the retries 0 lost, 0 twice",
        2 * rounds
    );
}
