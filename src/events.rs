//! The feed: changes of orders, as CloudEvents 1.0.
//!
//! There is no outbox table and no relay. Each order carries the id of the transaction that changed it last, and the feed
//! reads the orders by it. So of several changes of an order only the newest may be shown. A consumer that keeps the highest
//! version of each order reaches the same state whatever it missed, saw twice or saw out of order.
//!
//! A consumer must not miss what was not visible when it last looked, and a snapshot of PostgreSQL shows exactly that.
//! So a cursor is a snapshot, and no open transaction holds up the changes of another one.

use serde::Serialize;
use uuid::Uuid;

use crate::client::ClientName;
use crate::order::{Order, rfc3339, to_json};
use crate::stores::{Event, OrderStore, Snapshot, StoreError, Sweep};

pub use cursor::{Cursor, MAX_OPEN, is_of_an_earlier_release};

mod cursor;

/// CloudEvents 1.0, JSON format, "JSON Batch Format".
pub const MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// At most `limit` events after `cursor`, or from the beginning, and the cursor after them. No events: there is no change
/// that the reader has not seen. `None`: the cursor has expired.
pub async fn read_events(
    orders: &impl OrderStore,
    client: &ClientName,
    cursor: Option<Cursor>,
    limit: u32,
) -> Result<Option<(Vec<Event>, Cursor)>, StoreError> {
    let beginning = Sweep { done: Snapshot::BEGINNING, begun: None };
    let (epoch, mut sweep) = cursor.map_or((None, beginning), |cursor| (Some(cursor.epoch), cursor.sweep));
    loop {
        let page = orders.events(client, &sweep, limit).await?;
        // Ahead of the server: it was set back, or is another one.
        if epoch.is_some_and(|epoch| epoch != page.epoch) || sweep.done.xmax > page.now.xmax {
            return Ok(None);
        }
        let had_begun = sweep.begun.is_some();
        let next = Cursor { epoch: page.epoch, sweep: cursor::sweep_after(sweep, &page) };
        if !page.events.is_empty() || !had_begun {
            return Ok(Some((page.events, next)));
        }
        // The rest of the sweep was changed meanwhile, so it is in the next one, which begins here.
        sweep = next.sweep;
    }
}

/// One event as JSON has it.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    r#type: String,
    subject: Uuid,
    time: String,
    datacontenttype: &'static str,
    data: &'a Order,
}

/// A batch of events.
pub fn to_batch(events: &[Event]) -> Vec<u8> {
    let batch = events.iter().map(|Event { order, at, .. }| CloudEvent {
        specversion: "1.0",
        id: format!("{}/{}", order.id, order.version),
        source: "/orders",
        r#type: format!("order.{}", order.status.as_str()),
        subject: order.id,
        time: rfc3339(*at),
        datacontenttype: "application/json",
        data: order,
    });
    to_json(&batch.collect::<Vec<_>>())
}
