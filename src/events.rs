//! The feed: what became of orders, as CloudEvents 1.0, in the order of the transactions that changed them.
//!
//! There is no outbox table and no relay. Each order carries the id of the transaction that changed it last, and the feed
//! reads the orders by it. So of several changes of an order only the newest may be shown. A consumer that keeps the highest
//! version of each order ends in the same state whatever it missed, saw twice or saw out of order.

use std::fmt;

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::order::Status;
use crate::stores::{Event, Position};

/// CloudEvents 1.0, JSON format, "JSON Batch Format".
pub const MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// What a client is given of a position: hexadecimal digits that mean nothing to it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}{:016x}{}", self.epoch, self.xid, self.order_id.simple())
    }
}

/// Reads what [`Position`] is displayed as, and no other spelling.
pub fn parse_cursor(text: &str) -> Option<Position> {
    let (rest, id) = text.split_at_checked(text.len().checked_sub(32)?)?;
    let (epoch, xid) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    let position = Position {
        epoch: i64::from_str_radix(epoch, 16).ok()?,
        xid: u64::from_str_radix(xid, 16).ok()?,
        order_id: Uuid::try_parse(id).ok()?,
    };
    (position.to_string() == text).then_some(position)
}

/// One event as JSON has it.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    r#type: &'static str,
    subject: Uuid,
    time: String,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

/// A batch of events.
pub fn to_batch(events: &[Event]) -> serde_json::Result<Vec<u8>> {
    let orders = events.iter().map(|event| event.order.json()).collect::<Result<Vec<_>, _>>()?;
    let batch = events.iter().zip(&orders).map(|(event, order)| cloud_event(event, serde_json::from_slice(order)?));
    serde_json::to_vec(&batch.collect::<serde_json::Result<Vec<_>>>()?)
}

fn cloud_event<'a>(event: &Event, data: &'a RawValue) -> serde_json::Result<CloudEvent<'a>> {
    let order = &event.order;
    Ok(CloudEvent {
        specversion: "1.0",
        id: format!("{}/{}", order.id, order.version),
        source: "/orders",
        r#type: match order.status {
            Status::Created => "order.created",
            Status::Confirmed => "order.confirmed",
            Status::Cancelled => "order.cancelled",
        },
        subject: order.id,
        time: event.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        datacontenttype: "application/json",
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        for position in [
            Position::start(1),
            Position { epoch: 1, xid: 742, order_id: Uuid::from_u128(9) },
            Position { epoch: i64::MAX, xid: u64::MAX, order_id: Uuid::max() },
        ] {
            let text = position.to_string();
            assert_eq!(parse_cursor(&text), Some(position));
            for other in [format!("0{text}"), format!("+{text}"), format!("{text} "), text.replace('0', "+")] {
                assert!(other == text || parse_cursor(&other).is_none(), "{other}");
            }
        }
        for text in ["", "é", "1", "-001", &"é".repeat(40), &"0".repeat(48), &"g".repeat(52)] {
            assert_eq!(parse_cursor(text), None, "{text}");
        }
    }
}
