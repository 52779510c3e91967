//! Two clients on the real stores: each has its own keys and orders, and no other request reaches them.

use sha2::{Digest, Sha256};

use super::installations::Database;
use super::support::*;

/// An entry of the setting `clients`.
pub fn entry(name: &str, token: &str) -> String {
    let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{digest}")
}

/// Clients `web` and `shop`; `shop` has two tokens, as while one is being replaced.
async fn start(database: &Database) -> TestApp {
    let clients = [entry("web", "token-web"), entry("shop", "token-shop"), entry("shop", "token-shop-2")].join("\n");
    let prefix = fresh_key();
    database.start(&[("SPIN_VARIABLE_CLIENTS", &clients), ("SPIN_VARIABLE_REDIS_KEY_PREFIX", &prefix)]).await
}

async fn place(app: &TestApp, token: &str, key: &str, order: &str) -> Answer {
    let request = app.post(key, order.to_owned()).bearer_auth(token);
    Answer::of(request.send().await.unwrap(), key).await
}

async fn get(app: &TestApp, token: &str, path: &str) -> Answer {
    Answer::of(app.http.get(format!("{}{path}", app.url)).bearer_auth(token).send().await.unwrap(), path).await
}

fn ids(list: &Answer) -> Vec<serde_json::Value> {
    list.json()["orders"].as_array().unwrap().iter().map(|order| order["orderId"].clone()).collect()
}

#[tokio::test]
async fn one_key_of_two_clients_is_two_orders_and_neither_reaches_the_others() {
    let database = Database::create().await;
    let app = start(&database).await;
    assert_eq!(app.get("/readyz").await.json()["status"], "ready");
    let key = fresh_key();
    let of_web = place(&app, "token-web", &key, ORDER).await;
    // At the same time, with both tokens of one client.
    let requests: Vec<_> = (0..50)
        .map(|at| app.post(&key, ORDER).bearer_auth(["token-shop", "token-shop-2"][at % 2]))
        .map(|request| tokio::spawn(async move { Answer::of(request.send().await.unwrap(), ORDER).await }))
        .collect();
    let mut of_shop = Vec::new();
    for request in requests {
        of_shop.push(request.await.unwrap());
    }
    assert_placed_once(&of_shop);
    assert_eq!((of_web.status, of_web.header("idempotent-replayed")), (201, "false"));
    assert_ne!(of_web.json()["orderId"], of_shop[0].json()["orderId"]);
    place(&app, "token-web", &key, ORDER).await.assert_replay_of(&of_web);
    let sql = "SELECT client, count(*) FROM orders WHERE idempotency_key = $1 GROUP BY client ORDER BY client";
    let rows = database.owner().await.query(sql, &[&key]).await.unwrap();
    let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("shop".to_owned(), 1), ("web".to_owned(), 1)]);

    let own = of_web.header("location");
    assert_eq!(get(&app, "token-web", own).await.status, 200);
    get(&app, "token-shop", own).await.assert_problem(404, "order-not-found");
    let patch = app.http.patch(format!("{}{own}", app.url)).bearer_auth("token-shop").header("if-match", "\"1\"");
    let patch = patch.header("content-type", "application/merge-patch+json").body(r#"{"status":"cancelled"}"#);
    Answer::of(patch.send().await.unwrap(), own).await.assert_problem(404, "order-not-found");
    assert_eq!(get(&app, "token-web", own).await.header("etag"), "\"1\"");
    for (token, expected) in [("token-web", &of_web), ("token-shop-2", &of_shop[0])] {
        for query in ["", "?status=created", "?customerId=c-42", &format!("?idempotencyKey={key}")] {
            let found = ids(&get(&app, token, &format!("/orders{query}")).await);
            assert_eq!(found, [expected.json()["orderId"].clone()], "{token} {query}");
        }
    }
    drop(app);
    database.drop().await;
}

#[tokio::test]
async fn an_entry_of_redis_that_is_copied_to_another_client_is_not_replayed() {
    let database = Database::create().await;
    let prefix = fresh_key();
    let clients = [entry("web", "token-web"), entry("shop", "token-shop")].join(" ");
    let variables = [("SPIN_VARIABLE_CLIENTS", &*clients), ("SPIN_VARIABLE_REDIS_KEY_PREFIX", &prefix)];
    let app = database.start(&variables).await;
    let key = fresh_key();
    let of_web = place(&app, "token-web", &key, ORDER).await;
    let [from, to] = ["web", "shop"].map(|client| format!("{prefix}:{client}:{key}"));
    // Written after the answer.
    assert!(!super::support::entry(&from, |entry| !entry.is_empty()).await.is_empty(), "no entry is written");
    let copied: u8 = redis::cmd("COPY").arg(from).arg(to).query_async(&mut redis().await).await.unwrap();
    assert_eq!(copied, 1);
    let of_shop = place(&app, "token-shop", &key, ORDER).await;
    assert_eq!((of_shop.status, of_shop.header("idempotent-replayed")), (201, "false"));
    assert_ne!(of_web.json()["orderId"], of_shop.json()["orderId"]);
    drop(app);
    database.drop().await;
}

#[tokio::test]
async fn who_has_no_token_gets_401_and_no_store_hears_of_it() {
    let clients = entry("web", "token-web");
    let app = TestApp::start_with(&[("SPIN_VARIABLE_CLIENTS", &clients)]).await;
    // A request that called one of these stores would not be answered at once.
    app.redis.stall();
    app.postgres.stall();
    let post = |lines: &[&str]| {
        let request = app.post("k", ORDER);
        lines.iter().fold(request, |request, line| request.header("authorization", *line))
    };
    let long = format!("Bearer {}", "t".repeat(8192));
    let started = std::time::Instant::now();
    for lines in [
        &[][..],
        &["Basic dG9rZW4="],
        &["Bearer "],
        &["Bearer unknown"],
        &["Bearer a b"],
        &["Bearer token-web"; 2],
        &[&long],
    ] {
        let answer = Answer::of(post(lines).send().await.unwrap(), ORDER).await;
        answer.assert_problem(401, "unauthorized");
        assert!(answer.header("www-authenticate").starts_with(r#"Bearer realm="orders""#));
    }
    for path in ["/orders", "/orders/x", "/orders/"] {
        app.get(path).await.assert_problem(401, "unauthorized");
    }
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
    for path in ["/", "/healthz", "/openapi.yaml", "/problems/unauthorized"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn clients_that_do_not_parse_are_seen_in_readiness() {
    let app = TestApp::start_with(&[("SPIN_VARIABLE_CLIENTS", "web:short")]).await;
    app.place(&fresh_key(), ORDER).await.assert_problem(500, "internal");
    app.get("/orders").await.assert_problem(500, "internal");
    assert_eq!((app.get("/readyz").await.status, app.get("/healthz").await.status), (503, 200));
}
