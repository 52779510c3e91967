//! `GET /events`: the feed, page by page.

use http::{HeaderValue, StatusCode, header};

use super::query::{self, parameters, value_of};
use super::{ApiResult, NO_STORE, header_value, json_response};
use crate::client::ClientName;
use crate::events::{Cursor, MEDIA_TYPE, is_of_an_earlier_release, read_events, to_batch};
use crate::problem::Problem;
use crate::stores::OrderStore;

/// Events on a page if the client gives no limit: a consumer wants all of them.
const DEFAULT_LIMIT: u32 = 100;
/// Seconds until a consumer should poll again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// One page. Every page has a `Link` to the next, an empty one too.
pub(super) async fn list_events(orders: &impl OrderStore, client: &ClientName, query: &str) -> ApiResult {
    let [after, limit] = parameters(query, ["after", "limit"])?;
    if after.as_ref().is_some_and(|after| is_of_an_earlier_release(&after.value)) {
        return Err(Problem::CursorExpired);
    }
    let after = value_of(after.as_ref(), |value| {
        Cursor::parse(value).ok_or_else(|| "must be that of an earlier page's Link".into())
    })?;
    let limit = value_of(limit.as_ref(), query::limit)?;
    let page = read_events(orders, client, after, limit.unwrap_or(DEFAULT_LIMIT)).await?;
    let (events, next) = page.ok_or(Problem::CursorExpired)?;
    let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();

    let mut response = json_response(StatusCode::OK, to_batch(&events).into(), NO_STORE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::LINK, header_value(format!("</events?after={next}{limit}>; rel=\"next\""))?);
    if events.is_empty() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    Ok(response)
}
