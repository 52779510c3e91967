//! `GET /events`: the feed, a page at a time.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::query::{Parameter, limit, parameters};
use super::{NO_STORE, header_value, json_response};
use crate::client::ClientName;
use crate::events::{MEDIA_TYPE, parse_cursor, to_batch};
use crate::problem::Problem;
use crate::stores::{OrderStore, Position};

/// Events on a page where the client names no limit: a consumer wants all of them.
const DEFAULT_LIMIT: u32 = 100;
/// Seconds until something new may be there. A consumer that asks sooner learns nothing.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// One page, oldest first. Its `Link` leads on for ever, also from an empty page.
pub(super) async fn list_events(
    orders: &impl OrderStore,
    client: &ClientName,
    query: Option<&str>,
) -> Result<Response<Bytes>, Problem> {
    let Asked { after, limit } = parse(query.unwrap_or_default())?;
    let page = orders.events(client, after, limit.unwrap_or(DEFAULT_LIMIT)).await?.ok_or(Problem::CursorExpired)?;
    let last = page.events.last().map(|last| Position { epoch: page.epoch, xid: last.xid, order_id: last.order.id });
    let next = last.or(after).unwrap_or(Position::start(page.epoch));
    let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();

    let mut response = json_response(StatusCode::OK, to_batch(&page.events)?.into(), NO_STORE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::LINK, header_value(format!("</events?after={next}{limit}>; rel=\"next\""))?);
    if page.events.is_empty() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    Ok(response)
}

/// What a query asks for.
#[derive(Default)]
struct Asked {
    after: Option<Position>,
    limit: Option<u32>,
}

fn parse(query: &str) -> Result<Asked, Problem> {
    let mut asked = Asked::default();
    for parameter in parameters(query) {
        let Parameter { name, value, .. } = parameter?;
        let is_first = match name.as_ref() {
            "limit" => asked.limit.replace(limit(&value)?).is_none(),
            "after" => {
                let position = parse_cursor(&value);
                let refused = || Problem::InvalidParameter("after must be that of an earlier page's Link".into());
                asked.after.replace(position.ok_or_else(refused)?).is_none()
            }
            _ => return Err(Problem::InvalidParameter("a parameter is unknown; known are after and limit".into())),
        };
        if !is_first {
            return Err(Problem::InvalidParameter(format!("{name} is given more than once")));
        }
    }
    Ok(asked)
}
