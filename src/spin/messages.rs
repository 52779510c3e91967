//! HTTP messages from and to the host, piece by piece. Each piece is a host call, so only what the API reads is
//! asked for. Why the SDK does not do it: `docs/architecture.md`, "Decisions".

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri};
use spin_sdk::wasip3::http::types::{self, ErrorCode};
use spin_sdk::wasip3::wit_bindgen::{self, StreamResult};
use spin_sdk::wasip3::{wit_future, wit_stream};

use crate::api::{self, MAX_BODY_BYTES};

/// Most bytes of an over-long body that are read and thrown away, so that its sender gets to see the answer.
const MAX_DRAINED_BYTES: usize = 4 * 1024 * 1024;
/// Room for what is read at once: most orders whole. With 16 KiB a replay took 3 % more instructions (2026-11-24).
const CHUNK_BYTES: usize = 4096;

/// The method, the target, and the headers that the API reads.
pub fn head(request: &types::Request) -> Request<()> {
    // The host has parsed the method, so it is one.
    let method = Method::try_from(request.get_method()).unwrap_or_default();
    // Without a path, as in CONNECT, there is no resource: `*` is the path of none.
    let target = request.get_path_with_query().unwrap_or_else(|| "*".into());
    let fields = request.get_headers();
    let mut head = Request::new(());
    for name in api::headers_read(&method) {
        for value in fields.get(name).into_iter().flat_map(HeaderValue::try_from) {
            head.headers_mut().append(*name, value);
        }
    }
    *head.uri_mut() = Uri::builder().path_and_query(target).build().unwrap_or(Uri::from_static("*"));
    *head.method_mut() = method;
    head
}

/// The body, or more than [`MAX_BODY_BYTES`] of it. `None` if the client broke off.
pub async fn body(request: types::Request) -> Option<Bytes> {
    // Tells the host, when it is dropped, that the body was taken.
    let (_taken, outcome) = wit_future::new(|| Ok(()));
    let (mut stream, end) = types::Request::consume_body(request, outcome);
    let mut body = Vec::new();
    let mut total = 0;
    while total < MAX_DRAINED_BYTES {
        body.reserve(CHUNK_BYTES);
        let (result, filled) = stream.read(body).await;
        body = filled;
        match result {
            StreamResult::Complete(count) => total += count,
            StreamResult::Dropped | StreamResult::Cancelled => {
                end.await.ok()?;
                break;
            }
        }
        // The rest of a body that is too long is read over.
        body.truncate(MAX_BODY_BYTES + 1);
    }
    Some(body.into())
}

/// The answer as the host takes it. The body follows once the head is on its way.
pub fn send(response: Response<Bytes>) -> Result<types::Response, ErrorCode> {
    let (head, body) = response.into_parts();
    let fields: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let fields = types::Fields::from_list(&fields).map_err(|cause| internal(&cause.to_string()))?;
    let (mut writer, contents) = wit_stream::new();
    // What the host is told of a body that was not written to its end.
    let (end, trailers) = wit_future::new(|| Err(internal("the body was not written")));
    // Without a reader there is nothing to write to, and the writer below ends at once.
    let contents = (!body.is_empty()).then_some(contents);
    let (answer, _sent) = types::Response::new(fields, contents, trailers);
    answer.set_status_code(head.status.as_u16()).map_err(|()| internal("no such status"))?;
    wit_bindgen::spawn(async move {
        let unwritten = writer.write_all(body.into()).await;
        drop(writer);
        if unwritten.is_empty() {
            let _ = end.write(Ok(None)).await;
        }
    });
    Ok(answer)
}

fn internal(cause: &str) -> ErrorCode {
    ErrorCode::InternalError(Some(cause.to_owned()))
}
