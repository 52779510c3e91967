//! The RFC 9457 problems: every refusal and failure that a client can see.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use serde::Serialize;
use uuid::Uuid;

use crate::client::Unauthorized;
use crate::idempotency::InvalidKey;
use crate::order::{Fault, Rejected, Status, to_json};
use crate::settings::InvalidSetting;
use crate::stores::StoreError;
use crate::trace::Note;

pub use catalogue::Entry;

mod catalogue;

/// The media type that `PATCH` accepts (RFC 7396). A `415` names it in `Accept-Patch`.
pub const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// One refusal or failure. Each doc line ends in its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// `POST /orders` without the header, perhaps with this misspelt one: 400.
    IdempotencyKeyMissing(Option<&'static str>),
    /// A key that breaks the syntax: 400.
    IdempotencyKeyInvalid(InvalidKey),
    /// A body that is not JSON: 400.
    MalformedJson(String),
    /// A query parameter that is unknown, repeated, out of range or badly encoded: 400.
    InvalidParameter(String),
    /// The request names no client: 401.
    Unauthorized(Unauthorized),
    /// No such path: 404.
    NotFound,
    /// No such order: 404.
    OrderNotFound,
    /// The path has only these methods: 405.
    MethodNotAllowed(String),
    /// The body did not arrive in time: 408.
    RequestTimeout,
    /// Another request with the key is still running: 409.
    IdempotencyKeyInUse(String),
    /// An order cannot move from one status to the other: 409.
    TransitionNotAllowed {
        /// The order's status.
        from: Status,
        /// The requested one.
        to: Status,
    },
    /// A cursor from before the database was loaded into another server or set back: 410.
    CursorExpired,
    /// The order is at another version than `If-Match` names; this is its current `ETag`: 412.
    PreconditionFailed(HeaderValue),
    /// A body over the limit: 413.
    PayloadTooLarge,
    /// A body whose `Content-Type` is not this one, the only one that the method accepts: 415.
    UnsupportedMediaType(&'static str),
    /// A body with a `Content-Encoding`: 415.
    UnsupportedCoding,
    /// An order, or a change of one, against the rules: 422.
    InvalidOrder(Vec<Fault>),
    /// The key belongs to this other order: 422.
    IdempotencyKeyReused(Uuid),
    /// `PATCH` without the `ETag` of the version to change: 428.
    PreconditionRequired,
    /// A defect or a bad setting: 500.
    Internal(String),
    /// PostgreSQL is late or unavailable, and the outcome is unknown: 503.
    StoreUnavailable(String),
}

/// Seconds after which a retry is worthwhile: longer than a lock or a short outage lasts.
const RETRY_AFTER_SECONDS: &str = "1";

/// Most faults listed in one answer: a body of 64 KiB can have thousands.
const MAX_ERRORS: usize = 100;

#[derive(Serialize)]
struct ProblemJson<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: Cow<'static, str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
    #[serde(rename = "orderId", skip_serializing_if = "Option::is_none")]
    order_id: Option<Uuid>,
}

impl Problem {
    /// The header beyond those of every problem.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::PreconditionFailed(etag) => return Some((header::ETAG, etag.clone())),
            Self::MethodNotAllowed(allow) => return Some((header::ALLOW, allow.try_into().ok()?)),
            Self::UnsupportedMediaType(MERGE_PATCH) => (ACCEPT_PATCH, MERGE_PATCH),
            Self::UnsupportedCoding => (header::ACCEPT_ENCODING, "identity"),
            Self::Unauthorized(Unauthorized::NoToken) => (header::WWW_AUTHENTICATE, r#"Bearer realm="orders""#),
            Self::Unauthorized(Unauthorized::UnknownToken) => {
                (header::WWW_AUTHENTICATE, r#"Bearer realm="orders", error="invalid_token""#)
            }
            Self::IdempotencyKeyInUse(_) | Self::StoreUnavailable(_) => (header::RETRY_AFTER, RETRY_AFTER_SECONDS),
            _ => return None,
        };
        Some((name, HeaderValue::from_static(value)))
    }

    /// The answer, with a note for the log.
    pub fn into_response(self) -> Response<Bytes> {
        let Entry { slug, status, title, detail, .. } = self.entry();
        let errors = if let Self::InvalidOrder(errors) = &self { errors.as_slice() } else { &[] };
        let json = ProblemJson {
            r#type: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail,
            errors: errors.get(..MAX_ERRORS).unwrap_or(errors),
            order_id: if let Self::IdempotencyKeyReused(order_id) = self { Some(order_id) } else { None },
        };
        let mut response = Response::new(to_json(&json).into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.header());
        let note = Note::on(&mut response);
        note.problem = Some(slug);
        if let Self::IdempotencyKeyInUse(cause) | Self::StoreUnavailable(cause) | Self::Internal(cause) = self {
            note.cause = Some(cause);
        }
        response
    }
}

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Malformed(reason) => Self::MalformedJson(reason),
            Rejected::Invalid(faults) => Self::InvalidOrder(faults),
        }
    }
}

impl From<&InvalidSetting> for Problem {
    fn from(invalid: &InvalidSetting) -> Self {
        Self::Internal(invalid.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let cause = error.to_string();
        match error {
            StoreError::KeyInUse(_) => Self::IdempotencyKeyInUse(cause),
            StoreError::Unavailable(_) => Self::StoreUnavailable(cause),
            StoreError::Broken(_) => Self::Internal(cause),
        }
    }
}
