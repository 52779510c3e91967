//! `GET /events`: the feed, page by page.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::query::{Parameter, limit, parameters};
use super::{NO_STORE, header_value, json_response};
use crate::client::ClientName;
use crate::events::{Cursor, MEDIA_TYPE, is_of_an_earlier_release, read_events, to_batch};
use crate::problem::Problem;
use crate::stores::OrderStore;

/// Events on a page if the client gives no limit: a consumer wants all of them.
const DEFAULT_LIMIT: u32 = 100;
/// Seconds until a consumer should poll again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// One page. Every page has a `Link` to the next, an empty one too.
pub(super) async fn list_events(
    orders: &impl OrderStore,
    client: &ClientName,
    query: Option<&str>,
) -> Result<Response<Bytes>, Problem> {
    let FeedQuery { after, limit } = parse(query.unwrap_or_default())?;
    let page = read_events(orders, client, after, limit.unwrap_or(DEFAULT_LIMIT)).await?;
    let (events, next) = page.ok_or(Problem::CursorExpired)?;
    let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();

    let mut response = json_response(StatusCode::OK, to_batch(&events)?.into(), NO_STORE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::LINK, header_value(format!("</events?after={next}{limit}>; rel=\"next\""))?);
    if events.is_empty() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    Ok(response)
}

/// What a query asks for.
#[derive(Default)]
struct FeedQuery {
    after: Option<Cursor>,
    limit: Option<u32>,
}

fn parse(query: &str) -> Result<FeedQuery, Problem> {
    let mut asked = FeedQuery::default();
    for parameter in parameters(query) {
        let Parameter { name, value, .. } = parameter?;
        let is_first = match name.as_ref() {
            "limit" => asked.limit.replace(limit(&value)?).is_none(),
            "after" => {
                let refused = || match is_of_an_earlier_release(&value) {
                    true => Problem::CursorExpired,
                    false => Problem::InvalidParameter("after must be that of an earlier page's Link".into()),
                };
                asked.after.replace(Cursor::parse(&value).ok_or_else(refused)?).is_none()
            }
            _ => return Err(Problem::InvalidParameter("a parameter is unknown; known are after and limit".into())),
        };
        if !is_first {
            return Err(Problem::InvalidParameter(format!("{name} is given more than once")));
        }
    }
    Ok(asked)
}
