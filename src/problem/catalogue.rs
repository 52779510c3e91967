//! The one table of problems: the contents of a problem document and of its page.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};
use uuid::Uuid;

use super::{MAX_ERRORS, MERGE_PATCH, Problem};
use crate::client::Unauthorized;
use crate::idempotency::InvalidKey;
use crate::order::{Fault, Status};

/// A problem as a client sees it, with what its page adds.
pub struct Entry {
    /// Its `type` is `/problems/{slug}`.
    pub slug: &'static str,
    /// The status of the answer.
    pub status: StatusCode,
    /// A short summary.
    pub title: &'static str,
    /// For the client, of this occurrence; never the text of a database or a library.
    pub detail: Cow<'static, str>,
    /// For its page: what happened.
    pub meaning: &'static str,
    /// For its page: whether a retry helps, and with which key.
    pub retry: &'static str,
}

impl Problem {
    /// One of each, ordered by status. [`Problem::entry`] has no other.
    pub fn examples() -> [Self; 20] {
        let fault = |pointer: &str, detail: &'static str| Fault { pointer: pointer.into(), detail: detail.into() };
        [
            Self::IdempotencyKeyMissing(None),
            Self::IdempotencyKeyInvalid(InvalidKey::TooLong),
            Self::MalformedJson("EOF while parsing an object at line 1 column 1".into()),
            Self::InvalidParameter("limit must be a whole number from 1 to 100".into()),
            Self::Unauthorized(Unauthorized::NoToken),
            Self::NotFound,
            Self::OrderNotFound,
            Self::MethodNotAllowed("GET, HEAD, POST".into()),
            Self::RequestTimeout,
            Self::IdempotencyKeyInUse(String::new()),
            Self::TransitionNotAllowed { from: Status::Cancelled, to: Status::Confirmed },
            Self::CursorExpired,
            Self::PreconditionFailed(HeaderValue::from_static("\"2\"")),
            Self::PayloadTooLarge,
            Self::UnsupportedMediaType(MERGE_PATCH),
            Self::InvalidOrder(vec![
                fault("/colour", "is not a known field"),
                fault("/items/0/quantity", "must be from 1 to 10000"),
            ]),
            Self::IdempotencyKeyReused(Uuid::from_u128(0x019a_b0c2_7d1e_7c3a_9a51_3f0a_5d0f_6b11)),
            Self::PreconditionRequired,
            Self::Internal(String::new()),
            Self::StoreUnavailable(String::new()),
        ]
    }

    /// Its entry in the catalogue.
    pub fn entry(&self) -> Entry {
        let entry = |slug, status, title, detail, meaning, retry| Entry { slug, status, title, detail, meaning, retry };
        match self {
            Self::IdempotencyKeyMissing(misspelt) => entry(
                "idempotency-key-missing",
                StatusCode::BAD_REQUEST,
                "Idempotency-Key is missing",
                match misspelt {
                    None => "Send an Idempotency-Key header with a fresh value for each order, such as a UUID.".into(),
                    Some(name) => format!("The header {name} is not read. Send its value as Idempotency-Key.").into(),
                },
                "The request has no Idempotency-Key header. \
                 Without a key the service cannot tell a retry from a second order, so it placed none. \
                 Headers with similar names, such as X-Idempotency-Key or Idempotency_Key, are not read.",
                "Not as it is. Create a key for this order, such as a UUID, keep it until the order is settled, \
                 and send the request with it.",
            ),
            Self::IdempotencyKeyInvalid(reason) => entry(
                "idempotency-key-invalid",
                StatusCode::BAD_REQUEST,
                "Idempotency-Key is invalid",
                format!("Idempotency-Key: {reason}.").into(),
                "A key has 1 to 255 printable ASCII characters, in one header line, bare or as a quoted string. \
                 No order was placed.",
                "Not as it is. Correct the key, or create a new one: a UUID is always valid.",
            ),
            Self::MalformedJson(reason) => entry(
                "malformed-json",
                StatusCode::BAD_REQUEST,
                "The body is not JSON",
                format!("The body is not JSON: {reason}.").into(),
                "The body is not one JSON document in UTF-8, or it was cut off. Nothing was written.",
                "If it was cut off, send it again with the same key. Otherwise correct the body; the key is unused \
                 and may be used for it.",
            ),
            Self::InvalidParameter(reason) => entry(
                "invalid-parameter",
                StatusCode::BAD_REQUEST,
                "A query parameter is invalid",
                format!("{reason}.").into(),
                "A parameter is unknown, given twice, out of range or badly encoded. \
                 An unknown one is refused because a misspelt filter would list everything. \
                 A bare plus sign is refused because some read it as a space: write %2B for a plus sign, %20 for a space.",
                "Not as it is. Correct the query. No key is involved.",
            ),
            Self::Unauthorized(_) => entry(
                "unauthorized",
                StatusCode::UNAUTHORIZED,
                "No valid client token",
                "Send Authorization: Bearer with the token of a client.".into(),
                "The request does not carry a known client's token in a single Authorization: Bearer header. \
                 Nothing else was checked, and nothing was written.",
                "Not as it is. Send it with the client's token and the same key, which is unused.",
            ),
            Self::NotFound => entry(
                "not-found",
                StatusCode::NOT_FOUND,
                "No such resource",
                "There is nothing at this path.".into(),
                "There is nothing at this path.",
                "No. The first page lists all paths.",
            ),
            Self::OrderNotFound => entry(
                "order-not-found",
                StatusCode::NOT_FOUND,
                "No such order",
                "There is no order with this id.".into(),
                "This client has no order with this id, or the id is not a hyphenated UUID. \
                 Orders are never deleted.",
                "No. If its POST may still be running, send that again with the same key: only that settles it.",
            ),
            Self::MethodNotAllowed(allow) => entry(
                "method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                format!("This path allows {allow}.").into(),
                "The path exists, but not for this method. The Allow header lists its methods.",
                "Not with this method.",
            ),
            Self::RequestTimeout => entry(
                "request-timeout",
                StatusCode::REQUEST_TIMEOUT,
                "The body did not arrive in time",
                "The body did not arrive in time. Nothing was written. \
                 Send the same request again, key included."
                    .into(),
                "The head of the request arrived, but the body was not complete in time. \
                 The limit is 10 seconds by default. Nothing was written. Over HTTP/1 the connection is closed.",
                "Yes, over a new connection: the same request with the same key, which is unused.",
            ),
            Self::IdempotencyKeyInUse(_) => entry(
                "idempotency-key-in-use",
                StatusCode::CONFLICT,
                "A request with this key is still running",
                "Another request with this Idempotency-Key is still running. Send this one again as it is.".into(),
                "An earlier request with this key has not finished, and this one waited for it up to its limit. \
                 This one wrote nothing.",
                "Yes: wait as long as Retry-After says, then send the same request with the same key. \
                 It gets the earlier one's answer, or places the order if that one failed. \
                 Nothing else settles it. An empty list from GET /orders?idempotencyKey=... proves nothing, since the \
                 earlier request may commit a moment later. Do not take a fresh key.",
            ),
            Self::TransitionNotAllowed { from, to } => entry(
                "transition-not-allowed",
                StatusCode::CONFLICT,
                "The order cannot move to this status",
                format!("An order that is {} cannot become {}.", from.as_str(), to.as_str()).into(),
                "An order goes from created to confirmed, from created to cancelled, or from confirmed to cancelled. \
                 Any other move is refused, and nothing was written.",
                "No: the answer stays the same as long as the order is at the version that If-Match names.",
            ),
            Self::CursorExpired => entry(
                "cursor-expired",
                StatusCode::GONE,
                "The cursor has expired",
                "The cursor is from an earlier life of the database. \
                 Read again without after and drop orders that do not appear."
                    .into(),
                "The cursor belongs to an earlier life of the database, which has since been loaded into another server \
                 or set back, or to an earlier release of the service. It cannot show what was committed since.",
                "Not as it is. Mark all your orders as stale and read the feed again without after. For a stale order take \
                 the version that arrives, even if yours is higher. At the first empty page drop those that are still stale: \
                 they no longer exist.",
            ),
            Self::PreconditionFailed(_) => entry(
                "precondition-failed",
                StatusCode::PRECONDITION_FAILED,
                "If-Match names another version",
                "If-Match does not name the order's current version. Read the order, decide again, and send its ETag \
                 unchanged, quotes included."
                    .into(),
                "The order is not at a version that If-Match names: it was changed meanwhile, or the tag is \
                 unquoted or wrong. \
                 Nothing was written. The ETag header has the current version.",
                "Not as it is. Read the order and decide. Send a change with the new ETag, which is the member version \
                 in quotes. \
                 No key is involved: the version is the key of a change.",
            ),
            Self::PayloadTooLarge => entry(
                "payload-too-large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "The body must be at most 65536 bytes.".into(),
                "The body is over 64 KiB. Nothing was written.",
                "Not as it is. The key is unused and may be used for a smaller body.",
            ),
            Self::UnsupportedMediaType(_) | Self::UnsupportedCoding => entry(
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                match self {
                    Self::UnsupportedMediaType(accepted) => {
                        format!("Send one Content-Type: {accepted}. Its parameters, if any, must be well-formed.")
                            .into()
                    }
                    _ => "Send the body as it is, without a Content-Encoding.".into(),
                },
                "The Content-Type is not the one that the method accepts: application/json for POST, \
                 application/merge-patch+json for PATCH. Or the body has a Content-Encoding other than identity. \
                 Nothing was written.",
                "Not as it is. Send the same body with the right Content-Type and without a Content-Encoding; \
                 the key is unused and may be used for it.",
            ),
            Self::InvalidOrder(faults) => entry(
                "invalid-order",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The order is invalid",
                match faults.len() {
                    ..=MAX_ERRORS => "The body breaks the rules listed in errors.".into(),
                    all => format!("The body breaks the rules in {all} places; errors lists the first {MAX_ERRORS}.")
                        .into(),
                },
                "The body is JSON, but breaks the rules of an order or of a change. \
                 The member errors lists every fault at once, up to the first hundred, each with its JSON Pointer. \
                 Nothing was written.",
                "Not as it is. Correct the body; the key is unused and may be used for it.",
            ),
            Self::IdempotencyKeyReused(_) => entry(
                "idempotency-key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The key belongs to another order",
                "This Idempotency-Key was used for another order. Use a fresh key for a new order.".into(),
                "An order was placed with this key before, and this one differs from it in at least one field. \
                 The earlier order, whose id is the member orderId, is unchanged, and no other was placed. This is a bug in the client.",
                "Not with this key. For a new order use a fresh key; to repeat the earlier order, send it unchanged.",
            ),
            Self::PreconditionRequired => entry(
                "precondition-required",
                StatusCode::PRECONDITION_REQUIRED,
                "If-Match names no version",
                "Send If-Match with the ETag of the version you mean to change; If-Match: * is not accepted.".into(),
                "The change had no If-Match header, or If-Match: *, which is not accepted. \
                 Without a version it could overwrite changes that its sender never saw. Nothing was written.",
                "Not as it is. Send it with If-Match and the order's ETag.",
            ),
            Self::Internal(_) => entry(
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "The service failed. The same request is safe to repeat as it is, key included.".into(),
                "The service is at fault: a defect or a bad setting. \
                 Whether the request took effect is unknown.",
                "Repeating it is safe: the same request with the same key never places a second order, \
                 and a change is never made twice. It helps once the service has been fixed.",
            ),
            Self::StoreUnavailable(_) => entry(
                "store-unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The order store is unavailable",
                "Whether the request took effect is unknown. Send it again as it is, key included.".into(),
                "PostgreSQL is unreachable, too slow, or without a table or a right that the service needs. \
                 Whether the request took effect is unknown.",
                "Yes: wait as long as Retry-After says, then send the same request with the same key, with growing \
                 pauses. It settles to exactly one order. Nothing else settles it. An empty list from \
                 GET /orders?idempotencyKey=... proves nothing, since this request may still commit a moment later. \
                 Do not take a fresh key. \
                 Send a change again with the same If-Match.",
            ),
        }
    }
}
