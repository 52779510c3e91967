//! The rules of an order and of a change: the known members, and what each may contain.

use serde_json::value::RawValue;

use super::json::{Faults, Pointer, Rejected, read};
use super::{Item, MAX_TOTAL, NewOrder, Status};

/// Most characters in `customerId` and `sku`.
const MAX_ID_CHARS: usize = 64;
const MAX_COMMENT_CHARS: usize = 500;
const MAX_ITEMS: usize = 100;
const MAX_QUANTITY: i64 = 10_000;
/// With it no sum of 100 items overflows 64 bits.
const MAX_UNIT_AMOUNT: i64 = 1_000_000_000_000;

impl NewOrder {
    /// Parses a request body.
    pub fn parse(body: &[u8]) -> Result<Self, Rejected> {
        read(body, order)
    }
}

impl Status {
    /// Parses a merge patch (RFC 7396) that sets the status, the only member of an order that changes.
    pub fn parse_patch(body: &[u8]) -> Result<Self, Rejected> {
        read(body, |faults, json| {
            let [status] = faults.members(&"", json, ["status"])?;
            faults.required(&"/status", status, Faults::status)
        })
    }
}

fn order(faults: &mut Faults, json: &str) -> Option<NewOrder> {
    let [customer_id, currency, items, comment] =
        faults.members(&"", json, ["customerId", "currency", "items", "comment"])?;
    let customer_id = faults.required(&"/customerId", customer_id, Faults::id);
    let currency = faults.required(&"/currency", currency, Faults::currency);
    let items = faults.required(&"/items", items, Faults::items);
    let comment = comment.map_or(Some(None), |json| faults.comment(&"/comment", json).map(Some));
    let items = items?;
    // Each factor is bounded by now, so the sum fits.
    let total_amount = items.iter().map(|item| item.quantity * item.unit_amount).sum();
    if total_amount > MAX_TOTAL {
        return faults.add(&"/items", format!("the total must be at most {MAX_TOTAL}"));
    }
    Some(NewOrder { customer_id: customer_id?, currency: currency?, items, comment: comment?, total_amount })
}

impl Faults {
    fn items(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<Vec<Item>> {
        let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(json.get()) else {
            return self.add(pointer, "must be an array");
        };
        if entries.is_empty() || entries.len() > MAX_ITEMS {
            return self.add(pointer, format!("must have 1 to {MAX_ITEMS} entries"));
        }
        // Read all of them before giving up on any, so that every fault is listed.
        let items = entries.iter().enumerate().map(|(at, json)| self.item(&format_args!("{pointer}/{at}"), json));
        items.collect::<Vec<_>>().into_iter().collect()
    }

    fn item(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<Item> {
        let [sku, quantity, unit_amount] = self.members(pointer, json.get(), ["sku", "quantity", "unitAmount"])?;
        let sku = self.required(&format_args!("{pointer}/sku"), sku, Self::id);
        let quantity = self.integer(&format_args!("{pointer}/quantity"), quantity, 1, MAX_QUANTITY);
        let unit_amount = self.integer(&format_args!("{pointer}/unitAmount"), unit_amount, 0, MAX_UNIT_AMOUNT);
        Some(Item { sku: sku?, quantity: quantity?, unit_amount: unit_amount? })
    }

    fn id(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<String> {
        parse_id(self.string(pointer, json)?).map_or_else(|fault| self.add(pointer, fault), Some)
    }

    fn currency(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<String> {
        let currency = self.string(pointer, json)?;
        let is_code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        if is_code { Some(currency) } else { self.add(pointer, "must be three capital letters (ISO 4217)") }
    }

    fn status(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<Status> {
        // In a merge patch null removes a member.
        if json.get() == "null" {
            return self.add(pointer, "cannot be removed");
        }
        let status = self.string(pointer, json)?;
        Status::parse(&status).or_else(|| self.add(pointer, "must be created, confirmed or cancelled"))
    }

    fn comment(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<String> {
        let comment = self.string(pointer, json)?;
        if comment.chars().count() > MAX_COMMENT_CHARS {
            return self.add(pointer, format!("must have at most {MAX_COMMENT_CHARS} characters"));
        }
        // PostgreSQL's text cannot hold it.
        if comment.contains('\0') {
            return self.add(pointer, "must not contain U+0000");
        }
        Some(comment)
    }
}

/// A `customerId` or `sku`, or the rule that it breaks.
pub fn parse_id(text: String) -> Result<String, String> {
    let is_id = !text.chars().any(char::is_control) && (1..=MAX_ID_CHARS).contains(&text.chars().count());
    is_id.then_some(text).ok_or_else(|| format!("must have 1 to {MAX_ID_CHARS} characters and no control characters"))
}
