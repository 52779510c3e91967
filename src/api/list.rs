//! `GET /orders`: filters, pages, `Link`.

use http::{StatusCode, header};
use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Simple;

use super::query::{self, parameters, value_of};
use super::{ApiResult, NO_STORE, header_value, json_response};
use crate::client::ClientName;
use crate::idempotency::IdempotencyKey;
use crate::order::{Order, Status, parse_id, to_json};
use crate::stores::{Filter, OrderStore};

const DEFAULT_LIMIT: u32 = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageJson<'a> {
    orders: &'a [Order],
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Simple>,
}

/// One page, newest first. An empty page may have a `nextCursor`.
pub(super) async fn list_orders(orders: &impl OrderStore, client: &ClientName, query: &str) -> ApiResult {
    let [customer_id, status, key, limit, cursor] =
        parameters(query, ["customerId", "status", "idempotencyKey", "limit", "cursor"])?;
    let filter = Filter {
        customer_id: value_of(customer_id.as_ref(), |value| parse_id(value.to_owned()))?,
        status: value_of(status.as_ref(), |value| {
            Status::parse(value).ok_or_else(|| "must be created, confirmed or cancelled".into())
        })?,
        idempotency_key: value_of(key.as_ref(), |value| {
            IdempotencyKey::parse(value.as_bytes()).map_err(|reason| format!("is no idempotency key: {reason}"))
        })?,
        // Only one spelling, so that a cursor can become something other than an id.
        before: value_of(cursor.as_ref(), |value| {
            let id = Uuid::try_parse(value).ok().filter(|id| id.simple().to_string() == value);
            id.ok_or_else(|| "must be a nextCursor of an earlier page".into())
        })?,
    };
    let limit = value_of(limit.as_ref(), query::limit)?.unwrap_or(DEFAULT_LIMIT);
    let found = orders.list(client, &filter, limit).await?;
    let page = PageJson { orders: &found.orders, next_cursor: found.next.map(Uuid::simple) };
    let mut response = json_response(StatusCode::OK, to_json(&page).into(), NO_STORE);
    if let Some(next) = page.next_cursor {
        // The next page's query begins with all parameters but the cursor, in the client's spelling.
        let cursor = cursor.map_or("", |cursor| cursor.as_sent);
        let others = query.split('&').filter(|pair| !pair.is_empty() && *pair != cursor);
        let others: String = others.flat_map(|pair| [pair, "&"]).collect();
        let link = format!("</orders?{others}cursor={next}>; rel=\"next\"");
        response.headers_mut().insert(header::LINK, header_value(link)?);
    }
    Ok(response)
}
