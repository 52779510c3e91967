//! `GET /orders`: filters, pages, `Link`.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Simple;

use super::query::{self, Parameter, parameters};
use super::{NO_STORE, header_value, json_response, to_json};
use crate::client::ClientName;
use crate::idempotency::IdempotencyKey;
use crate::order::{Order, Status, is_id};
use crate::problem::Problem;
use crate::stores::{Filter, OrderStore};

/// Orders on a page if the client gives no limit.
const DEFAULT_LIMIT: u32 = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    orders: &'a [Order],
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Simple>,
}

/// One page, newest first. An empty page may have a `nextCursor`.
pub(super) async fn list_orders(
    orders: &impl OrderStore,
    client: &ClientName,
    query: Option<&str>,
) -> Result<Response<Bytes>, Problem> {
    let ListQuery { filter, limit, others } = parse(query.unwrap_or_default())?;
    let found = orders.list(client, &filter, limit).await?;
    let page = Page { orders: &found.orders, next_cursor: found.next.map(Uuid::simple) };
    let mut response = json_response(StatusCode::OK, to_json(&page)?, NO_STORE);
    if let Some(cursor) = page.next_cursor {
        let link = format!("</orders?{others}cursor={cursor}>; rel=\"next\"");
        response.headers_mut().insert(header::LINK, header_value(link)?);
    }
    Ok(response)
}

/// What a query asks for.
struct ListQuery {
    filter: Filter,
    limit: u32,
    /// All parameters but the cursor, in the client's spelling, for the next page's query to begin with.
    others: String,
}

fn parse(text: &str) -> Result<ListQuery, Problem> {
    let mut filter = Filter::default();
    let mut others = String::new();
    let mut limit = None;
    for parameter in parameters(text) {
        let Parameter { as_sent, name, value } = parameter?;
        if name != "cursor" {
            others.extend([as_sent, "&"]);
        }
        let refused = |reason: &str| Problem::InvalidParameter(format!("{name} {reason}"));
        let is_first = match name.as_ref() {
            "limit" => limit.replace(query::limit(&value)?).is_none(),
            "cursor" => {
                // Only one spelling, so that a cursor can become something other than an id.
                let id = Uuid::try_parse(&value).ok().filter(|id| id.simple().to_string() == value);
                let id = id.ok_or_else(|| refused("must be a nextCursor of an earlier page"))?;
                filter.before.replace(id).is_none()
            }
            "customerId" if is_id(&value) => filter.customer_id.replace(value.into_owned()).is_none(),
            "customerId" => return Err(refused("must have 1 to 64 characters and no control characters")),
            "status" => {
                let status = Status::parse(&value).ok_or_else(|| refused("must be created, confirmed or cancelled"))?;
                filter.status.replace(status).is_none()
            }
            "idempotencyKey" => {
                let key = IdempotencyKey::parse(value.as_bytes());
                let key = key.map_err(|reason| refused(&format!("is no idempotency key: {reason}")))?;
                filter.idempotency_key.replace(key).is_none()
            }
            _ => {
                let known = "limit, cursor, customerId, status and idempotencyKey";
                return Err(Problem::InvalidParameter(format!("a parameter is unknown; known are {known}")));
            }
        };
        if !is_first {
            return Err(refused("is given more than once"));
        }
    }
    Ok(ListQuery { filter, limit: limit.unwrap_or(DEFAULT_LIMIT), others })
}
