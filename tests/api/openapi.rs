//! Every example in `docs/openapi.yaml` is sent or provoked, and compared with the service's answer.

use std::collections::BTreeSet;

use super::*;
use order::client::Clients;
use order::problem::Problem;
use serde_json::Value;

const YAML: &str = include_str!("../../docs/openapi.yaml");
const METHODS: [&str; 4] = ["get", "head", "post", "patch"];

pub fn contract() -> Value {
    serde_yaml_ng::from_str(YAML).unwrap()
}

/// The value itself, or the one that its `$ref` names.
fn resolved<'a>(contract: &'a Value, node: &'a Value) -> &'a Value {
    match node.get("$ref") {
        Some(reference) => contract.pointer(reference.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(),
        None => node,
    }
}

/// Name and value of each example of a media type or a parameter.
fn examples(contract: &Value, node: &Value) -> Vec<(String, Value)> {
    let named = node.get("examples").and_then(Value::as_object).into_iter().flatten();
    let named = named.map(|(name, example)| (name.clone(), resolved(contract, example)["value"].clone()));
    named.chain(node.get("example").map(|value| ("example".to_owned(), value.clone()))).collect()
}

/// An application whose next order is the one in the examples.
fn app_of_the_examples(contract: &Value) -> TestApp {
    let order = &contract["components"]["examples"]["Order"]["value"];
    let app = TestApp::default();
    let text = |name: &str| order[name].as_str().unwrap();
    app.fixed.set(Some((text("orderId").parse().unwrap(), text("createdAt").parse().unwrap())));
    app
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Bytes> {
    let request = headers
        .iter()
        .fold(Request::builder().method(method).uri(path), |request, (name, value)| request.header(*name, *value));
    request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// Provokes the answer that an example shows. An example without a line here fails the test.
async fn answer(contract: &Value, operation: &str, example: &str) -> Response<Bytes> {
    let app = app_of_the_examples(contract);
    let json = ("Content-Type", "application/json");
    let (key, patch, version_1) = (("Idempotency-Key", "k"), ("Content-Type", MERGE_PATCH), ("If-Match", "\"1\""));
    let body_of = |operation: &str, media_type: &str, name: &str| {
        let (path, method) =
            if operation == "createOrder" { ("/orders", "post") } else { ("/orders/{orderId}", "patch") };
        contract["paths"][path][method]["requestBody"]["content"][media_type]["examples"][name]["value"].to_string()
    };
    let book = body_of("createOrder", "application/json", "book");
    let confirm = body_of("changeOrder", MERGE_PATCH, "confirm");
    let order =
        format!("/orders/{}", contract["components"]["examples"]["Order"]["value"]["orderId"].as_str().unwrap());
    let fail = |error: StoreError| *app.orders.failure.borrow_mut() = Some(error);
    let place = || app.send(request("POST", "/orders", &[key, json], &book));

    let (method, path, mut headers, body): (&str, &str, Vec<(&str, &str)>, String) = match operation {
        "createOrder" => ("POST", "/orders", vec![key, json], book.clone()),
        "listOrders" => ("GET", "/orders", vec![], String::new()),
        "readOrder" => ("GET", &order, vec![], String::new()),
        "changeOrder" => ("PATCH", &order, vec![patch, version_1], confirm),
        "listEvents" => ("GET", "/events", vec![], String::new()),
        "health" => ("GET", "/healthz", vec![], String::new()),
        "readiness" => ("GET", "/readyz", vec![], String::new()),
        "readProblem" => ("GET", "/problems/nothing", vec![], String::new()),
        "NotFound" => ("GET", "/nowhere", vec![], String::new()),
        "MethodNotAllowed" => ("DELETE", "/orders", vec![], String::new()),
        other => panic!("no line for an example of {other}"),
    };
    let send = |headers: &[(&str, &str)], body: &str| app.send(request(method, path, headers, body));
    match (operation, example) {
        (_, "unauthorized") => {
            *app.clients.borrow_mut() = Clients::parse(&format!("web:{}", "0".repeat(64))).unwrap();
        }
        (_, "internal") => fail(StoreError::Broken(String::new())),
        (_, "store-unavailable") => fail(StoreError::Unavailable(String::new())),
        (_, "request-timeout") => {
            let head = request(method, path, &headers, "").map(|_| Err(Problem::RequestTimeout));
            return app.send_head(head).await;
        }
        (_, "coded") => {
            headers.push(("Content-Encoding", "gzip"));
            return send(&headers, &body).await;
        }
        (_, "payload-too-large") => return send(&headers, &" ".repeat(MAX_BODY_BYTES + 1)).await,
        (_, "malformed-json") => return send(&headers, "{").await,
        ("createOrder", "placed") => {}
        ("createOrder", "idempotency-key-missing") => return send(&[json], &body).await,
        ("createOrder", "idempotency-key-invalid") => {
            return send(&[("Idempotency-Key", &"k".repeat(256)), json], &body).await;
        }
        ("createOrder", "idempotency-key-in-use") => fail(StoreError::KeyInUse(String::new())),
        ("createOrder", "unsupported-media-type") => return send(&[key], &body).await,
        ("createOrder", "invalid-order") => {
            let colourful = body.replace("\"quantity\":2", "\"quantity\":0").replacen('{', r#"{"colour":"red","#, 1);
            return send(&headers, &colourful).await;
        }
        ("createOrder", "idempotency-key-reused") => {
            place().await;
            return send(&headers, &body.replace("59900", "1")).await;
        }
        ("listOrders", "empty") => {}
        ("listOrders", "page") => {
            let fixed = app.fixed.take();
            app.place("older", ORDER).await;
            app.fixed.set(fixed);
            place().await;
            return app.get("/orders?customerId=c-42&limit=1").await;
        }
        ("listOrders", "invalid-parameter") => return app.get("/orders?limit=0").await,
        ("listEvents", "placed") => drop(place().await),
        ("listEvents", "nothing-new") => {}
        ("listEvents", "invalid-parameter") => return app.get("/events?limit=0").await,
        ("listEvents", "cursor-expired") => {
            let page = app.get("/events").await;
            app.orders.epoch.set(1);
            return app.get(&feed::next(&page)).await;
        }
        ("readOrder", "order") => drop(place().await),
        ("readOrder", "precondition-failed") => {
            place().await;
            return send(&[("If-Match", "\"2\"")], "").await;
        }
        ("changeOrder", "confirmed") => drop(place().await),
        ("readOrder" | "changeOrder", "order-not-found") => {}
        ("changeOrder", "transition-not-allowed") => {
            place().await;
            app.patch(&order, "\"1\"", &body_of("changeOrder", MERGE_PATCH, "cancel")).await;
            return send(&[patch, ("If-Match", "\"2\"")], &body).await;
        }
        ("changeOrder", "precondition-failed") => {
            place().await;
            app.patch(&order, "\"1\"", &body_of("changeOrder", MERGE_PATCH, "cancel")).await;
        }
        ("changeOrder", "unsupported-media-type") => return send(&[json, version_1], &body).await,
        ("changeOrder", "precondition-required") => return send(&[patch], &body).await,
        ("changeOrder", "invalid-order") => {
            return send(&headers, r#"{"totalAmount":0,"status":"shipped"}"#).await;
        }
        ("health", "example") | ("readiness", "ready") => {}
        ("readiness", "degraded") => app.answers.is_down.set(true),
        ("readiness", "unavailable") => fail(StoreError::Unavailable(String::new())),
        (_, "not-found" | "method-not-allowed") => {}
        other => panic!("no line for {other:?}"),
    }
    send(&headers, &body).await
}

#[tokio::test]
async fn every_example_of_an_answer_is_what_the_service_answers() {
    let contract = contract();
    let mut responses = Vec::new();
    for (_, _, operation) in operations(&contract) {
        let id = operation["operationId"].as_str().unwrap();
        let of = operation["responses"].as_object().unwrap();
        responses.extend(of.iter().map(|(status, response)| (id.to_owned(), Some(status.parse().unwrap()), response)));
    }
    for name in ["NotFound", "MethodNotAllowed"] {
        responses.push((name.to_owned(), None, &contract["components"]["responses"][name]));
    }

    let mut compared = 0;
    let mut slugs = BTreeSet::new();
    for (id, status, response) in responses {
        let response = resolved(&contract, response);
        for (media_type, content) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
            let examples = examples(&contract, content);
            assert!(!examples.is_empty() || !media_type.ends_with("json"), "{id} {status:?} has no example");
            for (name, expected) in examples {
                let about = format!("{id} {status:?} {name}");
                let answer = answer(&contract, &id, &name).await;
                assert_eq!(json_of(&answer), expected, "{about}");
                assert_eq!(header(&answer, "content-type"), media_type, "{about}");
                let status: u16 = status.unwrap_or_else(|| expected["status"].as_u64().unwrap() as u16);
                assert_eq!(answer.status(), status, "{about}");
                assert_headers(&contract, response, &answer, &about);
                slugs.extend(expected.get("type").map(|slug| slug.as_str().unwrap().to_owned()));
                compared += 1;
            }
        }
    }
    assert!(compared > 30, "{compared}");
    let all: BTreeSet<_> =
        Problem::examples().iter().map(|problem| format!("/problems/{}", problem.entry().slug)).collect();
    assert_eq!(slugs, all, "each problem has an example");
    let listed = contract["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].as_array().unwrap();
    assert_eq!(listed.iter().map(|slug| slug.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), all);
}

/// The answer has the headers that are documented, and no other except those that describe any body.
fn assert_headers(contract: &Value, response: &Value, answer: &Response<Bytes>, about: &str) {
    let empty = serde_json::Map::new();
    let documented = response.get("headers").and_then(Value::as_object).unwrap_or(&empty);
    for (name, documented) in documented {
        let required = resolved(contract, documented).get("required") == Some(&Value::Bool(true));
        assert!(!required || answer.headers().contains_key(name), "{about}: no {name}");
    }
    for name in answer.headers().keys().filter(|name| !["content-type", "content-length"].contains(&name.as_str())) {
        assert!(documented.keys().any(|known| known.eq_ignore_ascii_case(name.as_str())), "{about}: {name}");
    }
}

fn operations(contract: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = contract["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(name, _)| METHODS.contains(&name.as_str()));
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    operations.collect()
}

#[tokio::test]
async fn every_example_of_a_request_is_accepted() {
    let contract = contract();
    let app = app_of_the_examples(&contract);
    let key = &contract["components"]["parameters"]["IdempotencyKey"];
    let bodies =
        examples(&contract, &contract["paths"]["/orders"]["post"]["requestBody"]["content"]["application/json"]);
    // Two spellings of one key: the first places the order, the others repeat it.
    let mut replayed = "false";
    for (_, key) in examples(&contract, key) {
        for (_, body) in &bodies {
            let answer = app.place(key.as_str().unwrap(), &body.to_string()).await;
            assert_eq!((answer.status().as_u16(), header(&answer, "idempotent-replayed")), (201, replayed));
            replayed = "true";
        }
    }
    let parameters = &contract["components"]["parameters"];
    let text = |name: &str| parameters[name]["example"].as_str().unwrap().to_owned();
    let path = format!("/orders/{}", text("OrderId"));
    let patches = &contract["paths"]["/orders/{orderId}"]["patch"]["requestBody"]["content"][MERGE_PATCH];
    for (_, patch) in examples(&contract, patches) {
        app.orders.rows.borrow_mut()[0].3.version = 1;
        app.orders.rows.borrow_mut()[0].3.status = Status::Created;
        assert_eq!(app.patch(&path, &text("IfMatch"), &patch.to_string()).await.status(), 200);
    }
    app.orders.rows.borrow_mut()[0].3.version = 1;
    let kept = app.send(request("GET", &path, &[("If-None-Match", &text("IfNoneMatch"))], "")).await;
    assert_eq!(kept.status(), 304);
}

#[tokio::test]
async fn the_contract_has_every_method_of_every_path() {
    let contract = contract();
    let app = TestApp::default();
    for (path, item) in contract["paths"].as_object().unwrap() {
        let documented: BTreeSet<_> = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| METHODS.contains(&name.as_str()))
            .map(|name| name.to_uppercase())
            .collect();
        let path = path.replace("{orderId}", "x").replace("{slug}", "internal");
        let refused = app.send(request("DELETE", &path, &[], "")).await;
        let allowed: BTreeSet<_> = header(&refused, "allow").split(", ").map(str::to_owned).collect();
        assert_eq!((refused.status().as_u16(), documented), (405, allowed), "{path}");
    }
    let ids: BTreeSet<_> =
        operations(&contract).iter().map(|(.., operation)| operation["operationId"].to_string()).collect();
    assert_eq!(ids.len(), operations(&contract).len());
    assert_eq!(contract["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(app.get("/openapi.yaml").await.body(), YAML.as_bytes());
    assert_eq!(header(&app.get("/openapi.yaml").await, "content-type"), "application/yaml");
}
