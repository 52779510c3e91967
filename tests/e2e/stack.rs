//! The component's small stack is enough, with a margin: the largest inputs pass on a quarter of it, the largest commands on a third.

use std::path::PathBuf;

use super::intake::Intake;
use super::support::*;

/// The stack size that `build.rs` links.
const STACK_SIZE: usize = 64 * 1024;

/// `i32.const STACK_SIZE` as the initial stack pointer: a mutable i32 global of that value. All sizes here take three bytes.
fn stack_pointer(size: usize) -> [u8; 7] {
    [0x7f, 0x01, 0x41, (size & 0x7f) as u8 | 0x80, (size >> 7 & 0x7f) as u8 | 0x80, (size >> 14) as u8, 0x0b]
}

/// That manifest with the same component, except for the size of its stack.
fn with_stack(manifest: &str, size: usize) -> PathBuf {
    let component = std::fs::read("target/wasm32-wasip2/release/order.wasm").unwrap();
    let wanted = stack_pointer(STACK_SIZE);
    let places: Vec<_> = component.windows(wanted.len()).enumerate().filter(|(_, bytes)| *bytes == wanted).collect();
    let [(place, _)] = places[..] else { panic!("{} globals look like the stack pointer, not one", places.len()) };
    let mut smaller = component.clone();
    smaller[place..place + wanted.len()].copy_from_slice(&stack_pointer(size));

    let folder = std::env::current_dir().unwrap().join(format!("target/stack/{size}/{manifest}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("order.wasm"), smaller).unwrap();
    let manifest = std::fs::read_to_string(manifest).unwrap().replace("../", "");
    let manifest = manifest.replace("target/wasm32-wasip2/release/order.wasm", "order.wasm");
    std::fs::write(folder.join("spin.toml"), manifest).unwrap();
    folder.join("spin.toml")
}

/// The inputs that take the parser of orders deepest, beside the largest one.
fn faulty_and_nested() -> [String; 2] {
    [
        format!(r#"{{"items":[{}]}}"#, vec![r#"{"sku":1,"quantity":"x","unitAmount":{}}"#; 100].join(",")),
        format!(r#"{{"comment":{}1{}}}"#, "[".repeat(30_000), "]".repeat(30_000)),
    ]
}

/// The largest order that is accepted, in the longest spelling.
fn largest_order() -> String {
    let item = format!(r#"{{"sku":"{}","quantity":10000,"unitAmount":1000000000}}"#, r"\u20ac".repeat(64));
    let items = vec![item; 100].join(",");
    let text = r"\u20ac".repeat(500);
    format!(r#"{{"customerId":"{}","currency":"RUB","items":[{items}],"comment":"{text}"}}"#, r"\u20ac".repeat(64))
}

/// The requests that go deepest into the component, with their status.
async fn statuses(app: &TestApp) -> Vec<(&'static str, u16)> {
    let largest = largest_order();
    let [faulty, nested] = faulty_and_nested();
    let mut statuses = Vec::new();
    for (name, body) in [("largest", &largest), ("faulty", &faulty), ("nested", &nested)] {
        statuses.push((name, app.place(&fresh_key(), body).await.status));
    }
    let customer = fresh_key();
    let of_customer = ORDER.replace("c-42", &customer);
    let key = fresh_key();
    statuses.push(("first", app.place(&key, &of_customer).await.status));
    for _ in 0..2 {
        statuses.push(("repeat", app.place(&key, &of_customer).await.status));
        let () = redis::cmd("DEL").arg(format!("order::{key}")).query_async(&mut redis().await).await.unwrap();
    }
    let of_customer = largest.replacen(&r"\u20ac".repeat(64), &customer, 1);
    for _ in 0..100 {
        app.place(&fresh_key(), &of_customer).await;
    }
    statuses.push(("page", app.get(&format!("/orders?limit=100&customerId={customer}")).await.status));
    for path in ["/", "/openapi.yaml", "/readyz"] {
        statuses.push((path, app.get(path).await.status));
    }
    statuses
}

/// The seed of a fuzz target, by its name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(format!("fuzz/seeds/{target}")).unwrap().map(|file| file.unwrap().path());
    files.map(|file| (file.display().to_string(), std::fs::read(&file).unwrap())).collect()
}

#[tokio::test]
async fn the_largest_inputs_pass_on_a_quarter_of_the_stack() {
    let app = TestApp::start_manifest(&with_stack("spin.toml", STACK_SIZE / 4), &[]).await;
    for (name, body) in seeds("body") {
        let status = app.post(&fresh_key(), body).send().await.unwrap().status();
        assert!(status == 201 || status == 422, "{name}: {status}");
    }
    for (name, query) in seeds("query") {
        let status = app.get(&format!("/orders?{}", String::from_utf8(query).unwrap().trim())).await.status;
        assert!(status == 200 || status == 400, "{name}: {status}");
    }
    let expected = [
        ("largest", 201),
        ("faulty", 422),
        ("nested", 422),
        ("first", 201),
        ("repeat", 201),
        ("repeat", 201),
        ("page", 200),
        ("/", 200),
        ("/openapi.yaml", 200),
        ("/readyz", 200),
    ];
    assert_eq!(statuses(&app).await, expected);
}

/// As many at once as there are workers, with more waiting.
#[tokio::test]
async fn the_largest_commands_pass_on_a_third_of_the_stack_side_by_side() {
    let intake = Intake::start_from(&with_stack("intake/spin.toml", STACK_SIZE / 3 / 16 * 16), &[]).await;
    let (keys, largest) = (fresh_keys(40), largest_order());
    for key in &keys {
        for order in [&largest].into_iter().chain(&faulty_and_nested()) {
            intake.order(key, order).await;
        }
    }
    intake.ring().await;
    let results = intake.results(120).await;
    for (status, expected) in [("201", 40), ("422", 80)] {
        assert_eq!(results.iter().filter(|result| result["status"] == status).count(), expected, "{status}");
    }
}

/// Shows that the tests above would detect a stack that is too small: it traps and overwrites nothing.
#[tokio::test]
async fn a_stack_that_is_too_small_traps() {
    let app = TestApp::start_manifest(&with_stack("spin.toml", 1024), &[]).await;
    assert_eq!(app.place(&fresh_key(), &largest_order()).await.status, 500);
}
