//! Converts HTTP messages from and to the host. Each part is a host call, so only what the API reads is fetched.
//!
//! The SDK's own conversion copies every header that a proxy added, also asks for scheme, authority and options, and answers
//! a request with `Content-Length: 9223372036854775808` with a bare `500`. This one takes a tenth fewer instructions for a replay.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use spin_sdk::wasip3::http::types::{self, ErrorCode, Fields, Trailers};
use spin_sdk::wasip3::wit_bindgen::{self, FutureReader, FutureWriter, StreamReader, StreamResult};
use spin_sdk::wasip3::{wit_future, wit_stream};

use crate::api;

/// How much is read at once: most orders fit. With 16 KiB a replay took 3 % more instructions (2026-11-24).
const CHUNK_BYTES: usize = 4096;
/// The same for a body that is discarded.
const DISCARDED_CHUNK_BYTES: usize = 64 * 1024;

/// The method, the target, the headers that the API reads, and the body. Only a service that has clients asks who calls.
pub fn receive(request: types::Request, has_clients: bool) -> (Request<()>, Body) {
    // The host has parsed the method, so it is valid.
    let method = Method::try_from(request.get_method()).unwrap_or_default();
    // Without a path, as in CONNECT, there is no resource; no route matches `*`.
    let target = request.get_path_with_query().unwrap_or_else(|| "*".into());
    let fields = request.get_headers();
    let mut head = Request::new(());
    *head.uri_mut() = PathAndQuery::try_from(target).unwrap_or(PathAndQuery::from_static("*")).into();
    let mut read = api::headers_read(&method, head.uri().path(), has_clients);
    fetch(&fields, read.clone(), head.headers_mut());
    if read.any(|name| name == api::IDEMPOTENCY_KEY) && !head.headers().contains_key(api::IDEMPOTENCY_KEY) {
        fetch(&fields, &api::MISSPELT_KEYS, head.headers_mut());
    }
    *head.method_mut() = method;
    // If a request has both, the coding determines where the body ends (RFC 9112, 6.3), and some hosts pass both on.
    if head.headers().contains_key(header::CONTENT_LENGTH) && fields.has(header::TRANSFER_ENCODING.as_str()) {
        head.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let length = head.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    (head, Body { fields, length, came: 0, untouched: Some(request), contents: None })
}

fn fetch(fields: &Fields, names: impl IntoIterator<Item = &'static HeaderName>, headers: &mut HeaderMap) {
    for name in names {
        for value in fields.get(name.as_str()).into_iter().flat_map(HeaderValue::try_from) {
            headers.append(name, value);
        }
    }
}

/// The body of a request. The host requests it from the client at the first read.
pub struct Body {
    fields: Fields,
    /// As declared in the head, if the API reads that.
    length: Option<usize>,
    /// Bytes so far.
    came: usize,
    untouched: Option<types::Request>,
    contents: Option<Contents>,
}

struct Contents {
    stream: StreamReader<u8>,
    end: FutureReader<Result<Option<Trailers>, ErrorCode>>,
    /// Reports to the host, when it is dropped, that the body was consumed.
    _taken: FutureWriter<Result<(), ErrorCode>>,
}

impl Body {
    /// Whether there is a rest to discard: not if the client waits for `100 Continue`, nor if it declares more than `most`,
    /// which is cut off.
    pub fn is_still_sent(&self, most: usize) -> bool {
        if self.untouched.is_none() {
            return self.contents.is_some();
        }
        let length = self.fields.get(header::CONTENT_LENGTH.as_str());
        let is_sent = match length.first().map(|length| str::from_utf8(length).unwrap_or_default().parse()) {
            Some(length) => length.is_ok_and(|length: usize| (1..=most).contains(&length)),
            None => self.fields.has(header::TRANSFER_ENCODING.as_str()),
        };
        let waits = |expect: &Vec<u8>| expect.eq_ignore_ascii_case(b"100-continue");
        is_sent && !self.fields.get(header::EXPECT.as_str()).iter().any(waits)
    }

    /// Reads on, to the end or to more than `most` bytes in all, and returns what it read if `is_kept`; otherwise discards it.
    /// `None` if the client broke off.
    pub async fn read(&mut self, most: usize, is_kept: bool) -> Option<Vec<u8>> {
        if let Some(request) = self.untouched.take() {
            let (taken, outcome) = wit_future::new(|| Ok(()));
            let (stream, end) = types::Request::consume_body(request, outcome);
            self.contents = Some(Contents { stream, end, _taken: taken });
        }
        let chunk = if is_kept { CHUNK_BYTES } else { DISCARDED_CHUNK_BYTES };
        let mut body = Vec::new();
        while let Some(contents) = &mut self.contents
            && self.came <= most
        {
            body.reserve(chunk);
            let (result, read) = contents.stream.read(body).await;
            body = read;
            match result {
                StreamResult::Complete(count) => self.came += count,
                // Only `end` shows whether this was the complete body.
                StreamResult::Dropped | StreamResult::Cancelled => self.contents.take()?.end.await.ok().map(drop)?,
            }
            // The host enforces the length, so the body is complete here. Asking for its end would be two more calls.
            if self.length == Some(self.came) {
                self.contents = None;
            }
            if !is_kept {
                body.clear();
            }
        }
        Some(body)
    }
}

/// The answer as the host expects it. What the host does not read of the body immediately is written once it has the answer.
pub async fn send(response: Response<Bytes>) -> Result<types::Response, ErrorCode> {
    let (head, body) = response.into_parts();
    let fields: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let fields = types::Fields::from_list(&fields).map_err(|cause| internal(&cause.to_string()))?;
    let (mut writer, contents) = wit_stream::new();
    // Reported to the host if the body is not written to its end.
    let (end, trailers) = wit_future::new(|| Err(internal("the body was not written")));
    // Without a reader there is nothing to write to, and the writer below ends immediately.
    let contents = (!body.is_empty()).then_some(contents);
    let (answer, _sent) = types::Response::new(fields, contents, trailers);
    answer.set_status_code(head.status.as_u16()).map_err(|()| internal("no such status"))?;
    let mut written = Box::pin(async move {
        let unwritten = writer.write_all(body.into()).await;
        drop(writer);
        if unwritten.is_empty() {
            let _ = end.write(Ok(None)).await;
        }
    });
    // Started before the host has the answer, so the body is ready when the host reads it, and head and body are mostly sent
    // together. Spin leaves Nagle's algorithm on: a body sent after its head may wait 40 ms for the client's delayed ACK.
    let begun = poll_fn(|context| Poll::Ready(written.as_mut().poll(context))).await;
    if begun.is_pending() {
        wit_bindgen::spawn(written);
    }
    Ok(answer)
}

fn internal(cause: &str) -> ErrorCode {
    ErrorCode::InternalError(Some(cause.to_owned()))
}
