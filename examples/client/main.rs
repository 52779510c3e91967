//! Places and confirms an order at `BASE_URL`, and counts orders and the events of the feed's first page. A second run with the key that it prints changes nothing:
//!
//!     cargo run --example client [KEY]

mod orders;

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = |name| std::env::var(name).unwrap_or_default();
    let url = Some(set("BASE_URL")).filter(|url| !url.is_empty());
    let mut client = orders::Orders::new(&url.unwrap_or_else(|| "http://127.0.0.1:3000".to_owned()), &set("TOKEN"))?;
    client.pending = Box::new(|key, order| println!("{key} {order}"));
    let items = json!([{ "sku": "BOOK-1", "quantity": 2, "unitAmount": 59900 }]);
    let order = json!({ "customerId": "c-42", "currency": "RUB", "items": items });
    let placed = client.place_order(&order, std::env::args().nth(1))?;
    let id = placed.get("orderId").and_then(Value::as_str).unwrap_or_default();
    println!("{}", client.change_order(id, 1, "confirmed")?);
    let (orders, events) = (client.orders(&[]).take(1000).count(), client.events(None).next().transpose()?);
    println!("{orders} orders, {} events", events.map_or(0, |(page, _)| page.as_array().map_or(0, Vec::len)));
    Ok(())
}
