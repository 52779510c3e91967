//! Drives examples/client/orders.rs for `client_test.py`: a command a line on stdin, its outcome on stdout.

#![allow(clippy::indexing_slicing)]

#[path = "../../examples/client/orders.rs"]
mod orders;

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::rc::Rc;
use std::time::Duration;

use orders::{Failure, Orders};
use serde_json::{Value, json};

fn run(client: &Orders, command: &Value) -> Result<Value, Failure> {
    let text = |name: &str| command[name].as_str().map(str::to_owned);
    match command["do"].as_str() {
        Some("place") => client.place_order(&command["order"], text("key")),
        Some("change") => {
            let version = command["version"].as_u64().unwrap_or_default();
            client.change_order(&text("id").unwrap_or_default(), version, &text("status").unwrap_or_default())
        }
        Some("orders") => {
            let filters = command["filters"].as_object().into_iter().flatten();
            let filters: Vec<_> = filters.filter_map(|(name, value)| Some((&**name, value.as_str()?))).collect();
            client.orders(&filters).collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        _ => {
            let pages = usize::try_from(command["pages"].as_u64().unwrap_or_default()).unwrap_or_default();
            let pages: Result<Vec<_>, _> = client.events(text("after").as_deref()).take(pages).collect();
            Ok(json!(pages?))
        }
    }
}

fn told(failure: Failure) -> Value {
    match failure {
        Failure::Refused(status, kind, problem) => {
            json!({ "failure": "Refused", "status": status, "type": kind, "problem": problem })
        }
        Failure::Moved(order) => json!({ "failure": "Moved", "order": order }),
        Failure::GaveUp(cause) => json!({ "failure": "GaveUp", "cause": cause }),
    }
}

fn say(line: &Value) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options: Value = serde_json::from_str(&std::env::args().nth(1).ok_or("usage: drive OPTIONS")?)?;
    let mut client =
        Orders::new(options["url"].as_str().unwrap_or_default(), options["token"].as_str().unwrap_or_default())?;
    client.attempt = Duration::from_secs_f64(options["attempt"].as_f64().unwrap_or(20.0));
    client.total = Duration::from_secs_f64(options["total"].as_f64().unwrap_or(120.0));
    client.pending = Box::new(|key, order| say(&json!({ "pending": key, "order": order })));
    let pauses = Rc::new(RefCell::new(Vec::new()));
    let (kept, stops) = (pauses.clone(), options["stops"] == json!(true));
    client.sleep = Box::new(move |pause| {
        kept.borrow_mut().push(pause.as_secs_f64());
        if stops {
            say(&json!({ "pausing": true }));
            std::thread::sleep(Duration::from_secs(600));
        }
    });
    for line in std::io::stdin().lock().lines() {
        let mut outcome =
            run(&client, &serde_json::from_str(&line?)?).map_or_else(told, |value| json!({ "value": value }));
        outcome["pauses"] = json!(pauses.take());
        say(&outcome);
    }
    Ok(())
}
