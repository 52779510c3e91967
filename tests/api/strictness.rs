//! What real clients and proxies send, and requests with two possible readings.

use super::*;
use order::problem::Problem;
use order::stores::{PAGE_BYTES, PAGE_ROWS};

fn post() -> http::request::Builder {
    Request::post("/orders").header("idempotency-key", "k").header("content-type", "application/json")
}

fn order() -> Bytes {
    Bytes::from_static(ORDER.as_bytes())
}

#[tokio::test]
async fn a_collection_with_a_trailing_slash_is_an_unknown_path() {
    let app = TestApp::default();
    for method in ["POST", "GET", "DELETE"] {
        let request = Request::builder().method(method).uri("/orders/").body(Bytes::new()).unwrap();
        let refused = app.send(request).await;
        assert_problem(&refused, 404, "not-found");
        assert_eq!(header(&refused, "allow"), "");
    }
}

#[tokio::test]
async fn a_body_with_a_coding_is_refused_whatever_is_in_it() {
    let app = TestApp::default();
    for coding in ["gzip", "GZIP", "br", "identity, gzip", "aes128gcm", "x"] {
        let refused = app.send(post().header("content-encoding", coding).body(order()).unwrap()).await;
        assert_problem(&refused, 415, "unsupported-media-type");
        assert_eq!(header(&refused, "accept-encoding"), "identity", "{coding}");
    }
    let twice = post().header("content-encoding", "identity").header("content-encoding", "gzip");
    assert_problem(&app.send(twice.body(order()).unwrap()).await, 415, "unsupported-media-type");
    let patch = Request::patch(format!("/orders/{}", Uuid::nil())).header("content-type", MERGE_PATCH);
    let patch = patch.header("if-match", "\"1\"").header("content-encoding", "gzip").body(Bytes::new()).unwrap();
    assert_eq!(header(&app.send(patch).await, "accept-encoding"), "identity");
    assert_eq!(app.order_count(), 0);
    for coding in ["identity", "Identity", "", "identity, identity"] {
        let placed = app.send(post().header("content-encoding", coding).body(order()).unwrap()).await;
        assert_eq!(placed.status(), 201, "{coding}");
    }
}

#[tokio::test]
async fn a_media_type_may_have_parameters_that_are_well_formed() {
    let app = TestApp::default();
    let placed = async |media_type: &str| {
        let request = Request::post("/orders").header("idempotency-key", "k").header("content-type", media_type);
        app.send(request.body(order()).unwrap()).await
    };
    for media_type in [
        "application/json",
        " Application/JSON ",
        "application/json;",
        "application/json;;",
        "application/json; charset=utf-8",
        "application/json ; a=\"b; \\\" c\" ; d=e",
        "application/json;v=1 ;",
    ] {
        assert_eq!(placed(media_type).await.status(), 201, "{media_type}");
    }
    for media_type in [
        "",
        "application/jsonp",
        "application/json, text/plain",
        "application/json; charset=utf-8, text/plain",
        "application/json; charset",
        "application/json; =utf-8",
        "application/json; charset=",
        "application/json; a=\"b",
        "application/json; a=\"b\"c",
        "application/json; a = b",
        "application/json text",
    ] {
        assert_eq!(placed(media_type).await.status(), 415, "{media_type}");
    }
}

#[tokio::test]
async fn a_content_type_that_is_given_twice_is_refused() {
    let app = TestApp::default();
    let twice = post().header("content-type", "application/json").body(order()).unwrap();
    assert_problem(&app.send(twice).await, 415, "unsupported-media-type");
}

#[tokio::test]
async fn a_query_has_one_reading() {
    let app = TestApp::default();
    app.place("a+b", &ORDER.replace("c-42", "a+b")).await;
    app.place("a b", &ORDER.replace("c-42", "a b")).await;
    for query in [
        "customerId=é",
        "idempotencyKey=a+b",
        "customerId=a+b",
        "limit=+5",
        "limit=%2B5",
        "limit=05",
        "limit=%205",
        "limit=5%20",
        "limit=",
        "limit",
        "limit=-1",
        "limit=0",
        "limit=101",
        "limit=5.0",
        "limit=5&limit=5",
        "customerId=%",
        "customerId=%2",
        "customerId=%zz",
        "customerId=a%ff",
        "customerId=%C3",
        "customerI%64%=a",
        "%ff=1",
        "c%2BustomerId=1",
        "a+b=1",
        "status=Created",
        "status=+created",
        "cursor=+",
        "Limit=5",
        "limit=5;status=created",
        "=",
        "=5",
    ] {
        let refused = app.get(&format!("/orders?{query}")).await;
        assert_problem(&refused, 400, "invalid-parameter");
        let detail = json_of(&refused)["detail"].as_str().unwrap().to_owned();
        assert!(!detail.contains('\u{fffd}'), "{query}: {detail}");
    }
    let found =
        async |query: &str| json_of(&app.get(&format!("/orders?{query}")).await)["orders"][0]["customerId"].clone();
    for query in
        ["idempotencyKey=a%2Bb", "customerId=a%2bb", "idempotencyKey=%22a%2Bb%22", "&customerI%64=a%2Bb&&limit=5"]
    {
        assert_eq!(found(query).await, "a+b", "{query}");
    }
    for query in ["idempotencyKey=a%20b", "customerId=a%20b"] {
        assert_eq!(found(query).await, "a b", "{query}");
    }
}

#[tokio::test]
async fn a_link_repeats_the_query_in_the_clients_spelling() {
    let app = TestApp::default();
    for key in ["1", "2"] {
        app.place(key, &ORDER.replace("c-42", "a+b c")).await;
    }
    let page = app.get("/orders?cursor=ffffffffffffffffffffffffffffffff&customerId=a%2bb%20c&limit=1").await;
    let cursor = json_of(&page)["nextCursor"].as_str().unwrap().to_owned();
    let link = format!("</orders?customerId=a%2bb%20c&limit=1&cursor={cursor}>; rel=\"next\"");
    assert_eq!(header(&page, "link"), link);
}

#[tokio::test]
async fn an_empty_page_leads_on_if_none_of_many_orders_matches() {
    let app = TestApp::default();
    app.place("oldest", ORDER).await;
    let location = format!("/orders/{}", Uuid::from_u128(1));
    assert_eq!(app.patch(&location, "\"1\"", CONFIRM).await.status(), 200);
    for number in 0..PAGE_ROWS {
        app.place(&number.to_string(), ORDER).await;
    }
    let query = "/orders?customerId=c-42&status=confirmed";
    let (page, cursor) = (app.get(query).await, format!("{:032x}", 3));
    assert_eq!(json_of(&page), json!({"orders": [], "nextCursor": cursor}));
    assert_eq!(header(&page, "link"), format!("<{query}&cursor={cursor}>; rel=\"next\""));
    let last = app.get(&format!("{query}&cursor={cursor}")).await;
    assert_eq!((&json_of(&last)["orders"][0]["orderId"], header(&last, "link")), (&json!(Uuid::from_u128(1)), ""));
    assert_eq!(json_of(&last).get("nextCursor"), None);
}

#[tokio::test]
async fn a_page_ends_when_it_grows_large_and_the_next_one_continues() {
    let app = TestApp::default();
    let item = format!(r#"{{"sku":"{}","quantity":1,"unitAmount":1}}"#, "€".repeat(64));
    let large = format!(r#"{{"customerId":"c","currency":"RUB","items":[{}]}}"#, vec![item; 100].join(","));
    for at in 0..30 {
        assert_eq!(app.place(&format!("k{at}"), &large).await.status(), 201);
    }
    let (mut path, mut seen, mut pages) = ("/orders?limit=100".to_owned(), Vec::new(), 0);
    loop {
        let page = app.get(&path).await;
        assert!(page.body().len() < PAGE_BYTES + 64 * 1024, "{}", page.body().len());
        let ids = json_of(&page)["orders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|order| order["orderId"].to_string())
            .collect::<Vec<_>>();
        assert!(!ids.is_empty());
        seen.extend(ids);
        pages += 1;
        let Some(link) = header(&page, "link").strip_prefix('<') else { break };
        path = link.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert!(pages > 2 && seen.is_sorted_by(|newer, older| newer > older), "{pages}");
    assert_eq!(seen.len(), 30);
}

#[tokio::test]
async fn a_read_with_if_match_is_answered_for_that_version_only() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    for (if_match, if_none_match, status) in [
        ("\"7\"", None, 412),
        ("W/\"1\"", None, 200),
        ("W/\"7\"", None, 412),
        ("\"1-gzip\"", None, 412),
        ("1", None, 412),
        ("\"7\"", Some("\"1\""), 412),
        ("\"1\"", None, 200),
        ("\"7\", \"1\"", None, 200),
        ("*", None, 200),
        ("\"a,*,b\"", None, 412),
        ("\"7\", *", None, 412),
        ("*", Some("\"a,*,b\""), 200),
        ("*", Some("\"a,\", \"1\""), 304),
        ("*", Some("\"x\", *"), 200),
        ("", None, 200),
        ("\"1\"", Some("\"1\""), 304),
        ("*", Some("W/\"1\""), 304),
        ("\"1\"", Some("\"7\""), 200),
    ] {
        for method in ["GET", "HEAD"] {
            let request = Request::builder().method(method).uri(&location).header("if-match", if_match);
            let request =
                if_none_match.into_iter().fold(request, |request, tags| request.header("if-none-match", tags));
            let answer = app.send(request.body(Bytes::new()).unwrap()).await;
            assert_eq!(
                (answer.status().as_u16(), header(&answer, "etag")),
                (status, "\"1\""),
                "{if_match} {if_none_match:?}"
            );
        }
    }
    let missing = Request::get(format!("/orders/{}", Uuid::from_u128(99))).header("if-match", "\"1\"");
    assert_problem(&app.send(missing.body(Bytes::new()).unwrap()).await, 404, "order-not-found");
    // Only orders have versions to name.
    let page = Request::get("/").header("if-match", "\"1\"").body(Bytes::new()).unwrap();
    assert_eq!(app.send(page).await.status(), 200);
}

/// A client that waits with `Expect: 100-continue` gets these answers without sending a body.
#[tokio::test]
async fn what_the_head_decides_is_answered_before_the_body_is_requested() {
    let app = TestApp::default();
    let asked_for = || Err(Problem::Internal("the body was asked for".into()));
    let json = |request: http::request::Builder| request.header("content-type", "application/json");
    let patch = || Request::patch(format!("/orders/{}", Uuid::from_u128(1))).header("content-type", MERGE_PATCH);
    for (request, status, slug) in [
        (json(Request::post("/orders")), 400, "idempotency-key-missing"),
        (json(Request::post("/orders")).header("idempotency-key", "a,b"), 400, "idempotency-key-invalid"),
        (Request::post("/orders").header("idempotency-key", "k"), 415, "unsupported-media-type"),
        (post().header("content-encoding", "gzip"), 415, "unsupported-media-type"),
        (post().header("content-length", "65537"), 413, "payload-too-large"),
        (post().header("content-length", "9223372036854775808"), 413, "payload-too-large"),
        (json(Request::post("/nowhere")), 404, "not-found"),
        (json(Request::put("/orders")), 405, "method-not-allowed"),
        (patch(), 428, "precondition-required"),
        (patch().header("if-match", "\"1\"").header("content-length", "65537"), 413, "payload-too-large"),
        (Request::patch("/orders/x").header("content-type", MERGE_PATCH), 404, "order-not-found"),
        (post().header("content-length", "65536"), 500, "internal"),
    ] {
        assert_problem(&app.send_head(request.body(asked_for()).unwrap()).await, status, slug);
    }
    app.invalid_setting.set(Some("pg_sslmode"));
    let refused = app.send_head(post().body(asked_for()).unwrap()).await;
    assert_eq!(refused.extensions().get::<Note>().unwrap().cause.as_deref(), Some("variable pg_sslmode: is wrong"));
}

#[tokio::test]
async fn a_misspelt_key_header_is_named() {
    let app = TestApp::default();
    let detail = async |request: http::request::Builder| {
        let refused = app.send(request.header("content-type", "application/json").body(order()).unwrap()).await;
        assert_problem(&refused, 400, "idempotency-key-missing");
        json_of(&refused)["detail"].as_str().unwrap().to_owned()
    };
    assert!(
        detail(Request::post("/orders").header("X-Idempotency-Key", "k"))
            .await
            .contains("x-idempotency-key is not read")
    );
    assert!(!detail(Request::post("/orders")).await.contains("is not read"));
    assert_eq!(app.order_count(), 0);
}

#[tokio::test]
async fn an_answer_lists_a_hundred_faults_and_counts_all() {
    let app = TestApp::default();
    for (count, listed, says) in
        [(100, 100, "listed in errors"), (101, 100, "in 101 places"), (6_000, 100, "in 6000 places")]
    {
        let members: Vec<_> = (0..count).map(|at| format!("\"{at}\":0")).collect();
        let body = ORDER.replacen('{', &format!("{{{},", members.join(",")), 1);
        assert!(body.len() <= MAX_BODY_BYTES);
        let refused = app.place("k", &body).await;
        assert_problem(&refused, 422, "invalid-order");
        let problem = json_of(&refused);
        assert_eq!(problem["errors"].as_array().unwrap().len(), listed);
        assert!(problem["detail"].as_str().unwrap().contains(says), "{}", problem["detail"]);
    }
}

#[tokio::test]
async fn every_answer_states_how_long_it_may_be_kept_and_its_media_type() {
    let app = TestApp::default();
    let placed = app.place("k", ORDER).await;
    let location = header(&placed, "location").to_owned();
    let confirmed = app.patch(&location, "\"1\"", r#"{"status":"confirmed"}"#).await;
    let not_modified = Request::get(&location).header("if-none-match", "*").body(Bytes::new()).unwrap();
    for (answer, kept) in [
        (placed, "private, no-cache, no-transform"),
        (confirmed, "private, no-cache, no-transform"),
        (app.get(&location).await, "private, no-cache, no-transform"),
        (app.send(not_modified).await, "private, no-cache, no-transform"),
        (app.get("/orders").await, "no-store"),
        (app.get("/orders?idempotencyKey=none").await, "no-store"),
        (app.get("/healthz").await, "no-store"),
        (app.get("/readyz").await, "no-store"),
        (app.get("/nowhere").await, "no-store"),
        (app.place("", ORDER).await, "no-store"),
        (app.get("/").await, "no-cache"),
        (app.get("/openapi.yaml").await, "no-cache"),
        (app.get("/problems/").await, "no-cache"),
    ] {
        assert_eq!(header(&answer, "cache-control"), kept);
        let sniffed = if answer.body().is_empty() { "" } else { "nosniff" };
        assert_eq!(header(&answer, "x-content-type-options"), sniffed);
    }
}

#[tokio::test]
async fn head_has_the_length_that_get_would_have() {
    let app = TestApp::default();
    let location = header(&app.place("k", ORDER).await, "location").to_owned();
    for path in ["/", "/orders", &location, "/healthz", "/readyz", "/openapi.yaml", "/nowhere"] {
        let (got, head) = (app.get(path).await, app.send(Request::head(path).body(Bytes::new()).unwrap()).await);
        assert_eq!((head.status(), head.headers()), (got.status(), got.headers()), "{path}");
        assert_eq!(header(&head, "content-length"), got.body().len().to_string(), "{path}");
        assert!(head.body().is_empty());
    }
}
