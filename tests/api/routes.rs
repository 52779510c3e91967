//! The table of routes: where a path leads, and whether it belongs to a client.

use super::*;
use order::api::{headers_read, route_template};
use order::client::Clients;

/// Whether the path needs a client, in a service that has some.
fn is_for_clients(path: &str) -> bool {
    let read = headers_read(&Method::DELETE, path, true).collect::<Vec<_>>();
    assert!(headers_read(&Method::DELETE, path, false).next().is_none(), "{path}: no header is read for a 405");
    assert!(read.is_empty() || read == ["authorization"], "{path}: {read:?}");
    !read.is_empty()
}

#[test]
fn a_path_leads_to_one_route_and_is_a_clients_below_orders_and_events() {
    for (path, template, is_a_clients) in [
        ("/", "/", false),
        ("/problems", "/problems", false),
        ("/problems/", "/problems/", false),
        ("/problems/internal", "/problems/{slug}", false),
        ("/problems/orders/x", "*", false),
        ("/orders", "/orders", true),
        ("/orders/x", "/orders/{orderId}", true),
        ("/orders/", "*", true),
        ("/orders/x/y", "*", true),
        ("/events", "/events", true),
        ("/events/x", "*", true),
        ("/ordersx", "*", false),
        ("/Orders", "*", false),
        ("//", "*", false),
        ("//orders", "*", false),
    ] {
        assert_eq!((route_template(path), is_for_clients(path)), (template, is_a_clients), "{path}");
    }
}

#[test]
fn a_request_reads_the_headers_of_its_own_method_and_no_other() {
    let of = |method, path| headers_read(&method, path, false).collect::<Vec<_>>();
    assert_eq!(of(Method::GET, "/orders/x"), ["if-match", "if-none-match"]);
    assert_eq!(of(Method::HEAD, "/orders/x"), of(Method::GET, "/orders/x"));
    assert_eq!(of(Method::PATCH, "/orders/x")[..2], ["content-type", "if-match"]);
    assert_eq!(of(Method::POST, "/orders")[..2], ["content-type", "idempotency-key"]);
    for (method, path) in [(Method::POST, "/orders/x"), (Method::GET, "/orders"), (Method::GET, "/healthz")] {
        assert!(of(method, path).is_empty(), "{path}");
    }
}

/// In HTTP/2 a path may be any text, and CONNECT has none: it is unknown, and no token is required.
#[tokio::test]
async fn a_path_without_a_leading_slash_is_unknown() {
    for path in ["", "*", "orders", "orders/x", "orders/orders", "events", "x/orders", "*/orders", "healthz"] {
        assert_eq!((route_template(path), is_for_clients(path)), ("*", false), "{path}");
    }
    let app = TestApp::default();
    for clients in ["", "web:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
        *app.clients.borrow_mut() = Clients::parse(clients).unwrap();
        for target in ["orders", "events", "healthz", "orders:80", "*"] {
            for method in ["GET", "POST", "CONNECT"] {
                let request = Request::builder().method(method).uri(target).body(Bytes::new()).unwrap();
                assert!(!request.uri().path().starts_with('/'), "{target}");
                assert_problem(&app.send(request).await, 404, "not-found");
            }
        }
    }
}
