//! The RFC 9457 problems: every refusal and failure that a client can see.

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
    /// A body in a form that the method does not accept: 415.
    UnsupportedMediaType(Unsupported),
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

/// What about the form of a body is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// The `Content-Type`: the method accepts only this one.
    MediaType(&'static str),
    /// The `Content-Encoding`.
    Coding,
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
    detail: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
    #[serde(rename = "orderId", skip_serializing_if = "Option::is_none")]
    order_id: Option<Uuid>,
}

impl Problem {
    /// For the client; never the text of a database or a library.
    fn detail(&self) -> String {
        match self {
            Self::IdempotencyKeyMissing(None) => {
                "Send an Idempotency-Key header with a fresh value for each order, such as a UUID.".into()
            }
            Self::IdempotencyKeyMissing(Some(name)) => {
                format!("The header {name} is not read. Send its value as Idempotency-Key.")
            }
            Self::IdempotencyKeyInvalid(reason) => format!("Idempotency-Key: {reason}."),
            Self::MalformedJson(reason) => format!("The body is not JSON: {reason}."),
            Self::InvalidParameter(reason) => format!("{reason}."),
            Self::Unauthorized(_) => "Send Authorization: Bearer with the token of a client.".into(),
            Self::NotFound => "There is nothing at this path.".into(),
            Self::OrderNotFound => "There is no order with this id.".into(),
            Self::MethodNotAllowed(allow) => format!("This path allows {allow}."),
            Self::RequestTimeout => {
                "The body did not arrive in time. Nothing was written. Send the same request again, key included.".into()
            }
            Self::IdempotencyKeyInUse(_) => {
                "Another request with this Idempotency-Key is still running. Send this one again as it is.".into()
            }
            Self::TransitionNotAllowed { from, to } => {
                format!("An order that is {} cannot become {}.", from.as_str(), to.as_str())
            }
            Self::CursorExpired => {
                "The cursor is from an earlier life of the database. Read again without after and drop orders that do not appear."
                    .into()
            }
            Self::PreconditionFailed(_) => {
                "If-Match does not name the order's current version. Read the order, decide again, and send its ETag \
                 unchanged, quotes included."
                    .into()
            }
            Self::PayloadTooLarge => "The body must be at most 65536 bytes.".into(),
            Self::UnsupportedMediaType(Unsupported::MediaType(accepted)) => {
                format!("Send one Content-Type: {accepted}. Its parameters, if any, must be well-formed.")
            }
            Self::UnsupportedMediaType(Unsupported::Coding) => {
                "Send the body as it is, without a Content-Encoding.".into()
            }
            Self::InvalidOrder(faults) if faults.len() > MAX_ERRORS => {
                format!("The body breaks the rules in {} places; errors lists the first {MAX_ERRORS}.", faults.len())
            }
            Self::InvalidOrder(_) => "The body breaks the rules listed in errors.".into(),
            Self::IdempotencyKeyReused(_) => {
                "This Idempotency-Key was used for another order. Use a fresh key for a new order.".into()
            }
            Self::PreconditionRequired => {
                "Send If-Match with the ETag of the version you mean to change; If-Match: * is not accepted.".into()
            }
            Self::Internal(_) => {
                "The service failed. The same request is safe to repeat as it is, key included.".into()
            }
            Self::StoreUnavailable(_) => {
                "Whether the request took effect is unknown. Send it again as it is, key included.".into()
            }
        }
    }

    /// The header beyond those of every problem.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::PreconditionFailed(etag) => return Some((header::ETAG, etag.clone())),
            Self::MethodNotAllowed(allow) => return Some((header::ALLOW, allow.try_into().ok()?)),
            Self::UnsupportedMediaType(Unsupported::MediaType(MERGE_PATCH)) => (ACCEPT_PATCH, MERGE_PATCH),
            Self::UnsupportedMediaType(Unsupported::Coding) => (header::ACCEPT_ENCODING, "identity"),
            Self::Unauthorized(Unauthorized::NoToken) => (header::WWW_AUTHENTICATE, r#"Bearer realm="orders""#),
            Self::Unauthorized(Unauthorized::UnknownToken) => {
                (header::WWW_AUTHENTICATE, r#"Bearer realm="orders", error="invalid_token""#)
            }
            Self::IdempotencyKeyInUse(_) | Self::StoreUnavailable(_) => (header::RETRY_AFTER, RETRY_AFTER_SECONDS),
            _ => return None,
        };
        Some((name, HeaderValue::from_static(value)))
    }

    /// For the log.
    fn cause(self) -> Option<String> {
        match self {
            Self::IdempotencyKeyInUse(cause) | Self::StoreUnavailable(cause) | Self::Internal(cause) => Some(cause),
            _ => None,
        }
    }

    /// The answer, with a note for the log.
    pub fn into_response(self) -> Response<Bytes> {
        let Entry { slug, status, title, .. } = self.entry();
        let errors = if let Self::InvalidOrder(errors) = &self { errors.as_slice() } else { &[] };
        let json = ProblemJson {
            r#type: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
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
        (note.problem, note.cause) = (Some(slug), self.cause());
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
