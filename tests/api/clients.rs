//! Clients: who is admitted, and that no client reaches another one's orders.

use super::in_memory::redis_key;
use super::*;
use http::HeaderMap;
use order::client::{ClientName, Clients, Unauthorized};
use sha2::{Digest, Sha256};

fn digest(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn clients() -> Clients {
    Clients::parse(&format!("a:{} b:{}", digest("token-a"), digest("token-b"))).unwrap()
}

fn app() -> TestApp {
    let app = TestApp::default();
    *app.clients.borrow_mut() = clients();
    app
}

fn request(method: &str, path: &str, client: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer token-{client}"))
}

async fn place(app: &TestApp, client: &str, key: &str, order: &str) -> Response<Bytes> {
    let request =
        request("POST", "/orders", client).header("idempotency-key", key).header("content-type", "application/json");
    app.send(request.body(Bytes::copy_from_slice(order.as_bytes())).unwrap()).await
}

async fn get(app: &TestApp, client: &str, path: &str) -> Response<Bytes> {
    app.send(request("GET", path, client).body(Bytes::new()).unwrap()).await
}

fn ids(list: &Response<Bytes>) -> Vec<String> {
    json_of(list)["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["orderId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn one_key_of_two_clients_is_two_orders() {
    for redis_is_down in [false, true] {
        let app = app();
        app.answers.is_down.set(redis_is_down);
        let (of_a, of_b) = (place(&app, "a", "k", ORDER).await, place(&app, "b", "k", ORDER).await);
        assert_eq!((header(&of_a, "idempotent-replayed"), header(&of_b, "idempotent-replayed")), ("false", "false"));
        assert_ne!(of_a.body(), of_b.body());
        assert_replay_of(&place(&app, "a", "k", ORDER).await, &of_a);
        assert_replay_of(&place(&app, "b", "k", ORDER).await, &of_b);
        // Another order under the key is the client's own mistake, not another client's.
        let other = ORDER.replace("59900", "1");
        assert_problem(&place(&app, "a", "k", &other).await, 422, "idempotency-key-reused");
        assert_eq!(place(&app, "b", "k2", &other).await.status(), 201);
        assert_eq!(app.order_count(), 3);
    }
}

/// Every path to an order, tried by both clients on an order of each.
#[tokio::test]
async fn no_path_leads_to_an_order_of_another_client() {
    let app = app();
    for client in ["a", "b"] {
        // Two orders, so that the list has a second page.
        for key in ["k", "l"] {
            assert_eq!(place(&app, client, key, ORDER).await.status(), 201);
        }
    }
    for (caller, owner) in [("a", "b"), ("b", "a"), ("a", "a"), ("b", "b")] {
        let is_own = caller == owner;
        let own: Vec<String> = ids(&get(&app, owner, "/orders").await);
        assert_eq!(own.len(), 2);
        let location = format!("/orders/{}", own[0]);
        for method in ["GET", "HEAD"] {
            let answer = app.send(request(method, &location, caller).body(Bytes::new()).unwrap()).await;
            assert_eq!(answer.status(), if is_own { 200 } else { 404 }, "{method} {caller} {owner}");
        }
        let first = get(&app, caller, "/orders?limit=1").await;
        let cursor_of_owner =
            json_of(&get(&app, owner, "/orders?limit=1").await)["nextCursor"].as_str().unwrap().to_owned();
        for list in [
            first,
            get(&app, caller, "/orders").await,
            get(&app, caller, "/orders?status=created&customerId=c-42").await,
            get(&app, caller, "/orders?idempotencyKey=k").await,
            get(&app, caller, &format!("/orders?cursor={cursor_of_owner}")).await,
            get(&app, caller, "/orders?cursor=ffffffffffffffffffffffffffffffff").await,
        ] {
            assert!(is_own || ids(&list).iter().all(|id| !own.contains(id)), "{caller} {owner} {:?}", json_of(&list));
        }
        if !is_own {
            for (version, status) in [("\"1\"", "confirmed"), ("\"1\"", "cancelled"), ("\"7\"", "confirmed")] {
                let patch =
                    request("PATCH", &location, caller).header("if-match", version).header("content-type", MERGE_PATCH);
                let patch = patch.body(Bytes::from(format!(r#"{{"status":"{status}"}}"#))).unwrap();
                let refused = app.send(patch).await;
                assert_problem(&refused, 404, "order-not-found");
                assert_eq!(header(&refused, "etag"), "");
            }
            assert_eq!(header(&get(&app, owner, &location).await, "etag"), "\"1\"");
        }
    }
}

#[tokio::test]
async fn an_entry_copied_to_another_client_is_a_miss() {
    let app = app();
    let of_a = place(&app, "a", "k", ORDER).await;
    let key = IdempotencyKey::parse(b"k").unwrap();
    let [from, to] = ["a", "b"].map(|name| redis_key(&ClientName::parse(name).unwrap(), &key));
    let entry = app.answers.records.borrow()[&from].clone();
    app.answers.records.borrow_mut().insert(to, entry);
    let of_b = place(&app, "b", "k", ORDER).await;
    assert_eq!(header(&of_b, "idempotent-replayed"), "false");
    assert_ne!(of_a.body(), of_b.body());
}

#[tokio::test]
async fn a_request_without_a_token_learns_nothing() {
    let app = app();
    let location = header(&place(&app, "a", "k", ORDER).await, "location").to_owned();
    let statements = app.orders.statements.get();
    let long = format!("Bearer {}", "t".repeat(8192));
    let digest = format!("Bearer {}", digest("token-a"));
    let mut lengths = std::collections::BTreeSet::new();
    for (lines, challenge) in [
        (&[][..], r#"Bearer realm="orders""#),
        (&["Basic dG9rZW4tYQ=="], r#"Bearer realm="orders""#),
        (&["token-a"], r#"Bearer realm="orders""#),
        (&["Bearertoken-a"], r#"Bearer realm="orders""#),
        (&[""], r#"Bearer realm="orders""#),
        (&["Bearer"], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer "], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer unknown"], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer token-"], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer token-aa"], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer token-a,"], r#"Bearer realm="orders", error="invalid_token""#),
        (&[&digest], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer token-a token-b"], r#"Bearer realm="orders", error="invalid_token""#),
        (&["Bearer token-a", "Bearer token-a"], r#"Bearer realm="orders", error="invalid_token""#),
        (&[&long], r#"Bearer realm="orders", error="invalid_token""#),
    ] {
        // Even if something else is wrong: nothing else is checked.
        for (method, path) in [
            ("POST", "/orders"),
            ("GET", "/orders"),
            ("GET", "/orders?limit=x"),
            ("GET", &*location),
            ("PATCH", &location),
            ("DELETE", "/orders"),
            ("GET", "/orders/"),
            ("GET", "/orders/x/y"),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = lines.iter().fold(request, |request, line| request.header("authorization", *line));
            let refused = app.send_head(request.body(Err(order::problem::Problem::RequestTimeout)).unwrap()).await;
            assert_problem(&refused, 401, "unauthorized");
            assert_eq!(header(&refused, "www-authenticate"), challenge, "{lines:?}");
            lengths.insert(refused.body().len());
        }
    }
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    assert_eq!((app.orders.statements.get(), app.order_count()), (statements, 1));
    for path in ["/", "/healthz", "/readyz", "/openapi.yaml", "/problems/", "/problems/unauthorized"] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
    assert_problem(&app.get("/ordersx").await, 404, "not-found");
    for scheme in ["bearer", "BEARER"] {
        let list = Request::get("/orders").header("authorization", format!("{scheme} token-a"));
        assert_eq!(app.send(list.body(Bytes::new()).unwrap()).await.status(), 200);
    }
}

#[tokio::test]
async fn clients_that_do_not_parse_admit_no_request() {
    let app = TestApp::default();
    app.invalid_setting.set(Some("clients"));
    assert_problem(&app.place("k", ORDER).await, 500, "internal");
    assert_problem(&app.get("/orders").await, 500, "internal");
    assert_problem(&app.get("/orders/x").await, 500, "internal");
    assert_eq!(app.get("/readyz").await.status(), 503);
    assert_eq!((app.orders.statements.get(), app.order_count()), (0, 0));
}

const WEB: &str = "web:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const SHOP: &str = "shop-2:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

fn identified(clients: &str, lines: &[&str]) -> Result<String, Unauthorized> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append("authorization", line.parse().unwrap());
    }
    Clients::parse(clients).unwrap().identify(&headers).map(|name| name.as_str().to_owned())
}

#[test]
fn an_empty_list_is_open_to_everyone() {
    for clients in ["", " \n\t"] {
        assert_eq!(identified(clients, &[]), Ok(String::new()));
        assert_eq!(identified(clients, &["Basic x", "Bearer y"]), Ok(String::new()));
    }
}

#[test]
fn a_token_names_its_client() {
    let clients = format!("{WEB}\n {SHOP}");
    for (line, name) in [("Bearer test", "web"), ("bearer  test", "web"), ("BEARER test2", "shop-2")] {
        assert_eq!(identified(&clients, &[line]), Ok(name.into()), "{line}");
    }
    let second = "web:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";
    assert_eq!(identified(&format!("{WEB} {second}"), &["Bearer test2"]), Ok("web".into()));
}

#[test]
fn a_value_that_does_not_parse_names_its_entry_and_never_means_open() {
    let digest = &WEB[4..];
    for (clients, number) in [
        ("web".to_owned(), 1),
        (",".to_owned(), 1),
        (format!("{WEB}, {SHOP}"), 1),
        (format!("{WEB} ,"), 2),
        (format!("{SHOP} web:{}", digest.to_uppercase()), 2),
        (format!("web:{}", &digest[1..]), 1),
        (format!("web:{digest}0"), 1),
        (format!("web: {digest}"), 1),
        (format!(":{digest}"), 1),
        (format!("Web:{digest}"), 1),
        (format!("{}:{digest}", "w".repeat(33)), 1),
        (format!("{WEB} {WEB}"), 2),
        (format!("{WEB} {SHOP} shop:{digest}"), 3),
    ] {
        let Err(invalid) = Clients::parse(&clients) else { panic!("{clients} means something") };
        assert!(invalid.starts_with(&format!("entry {number} ")), "{clients}: {invalid}");
        assert!(!invalid.contains(&digest[..8]), "{invalid}");
    }
}
