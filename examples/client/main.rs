//! Places and confirms an order at `BASE_URL`; again with its key, it changes nothing:
//!
//!     cargo run --example client [KEY]

#![allow(clippy::indexing_slicing)]

#[expect(dead_code, reason = "it neither lists orders nor follows the feed")]
mod orders;

use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let url = variable("BASE_URL").unwrap_or_else(|| "http://127.0.0.1:3000".into());
    let mut client = orders::Orders::new(&url, &variable("TOKEN").unwrap_or_default())?;
    client.pending = Box::new(|key, order| println!("{key} {order}"));
    let items = json!([{ "sku": "BOOK-1", "quantity": 2, "unitAmount": 59900 }]);
    let order = json!({ "customerId": "c-42", "currency": "RUB", "items": items });
    let placed = client.place_order(&order, std::env::args().nth(1))?;
    let (id, version) = (placed["orderId"].as_str(), placed["version"].as_u64());
    println!("{}", client.change_order(id.ok_or("no id")?, version.ok_or("no version")?, "confirmed")?);
    Ok(())
}
