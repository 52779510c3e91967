//! What the head of a request decides before its body is requested.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{IDEMPOTENCY_KEY, MAX_BODY_BYTES, Received};
use crate::idempotency::{IdempotencyKey, InvalidKey};
use crate::problem::Problem;

/// Headers that are probably meant as `Idempotency-Key`: fetched if that one is missing, so that the refusal can name them.
pub static MISSPELT_KEYS: [HeaderName; 4] = [
    HeaderName::from_static("x-idempotency-key"),
    HeaderName::from_static("idempotency_key"),
    HeaderName::from_static("idempotencykey"),
    HeaderName::from_static("idempotent-key"),
];

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (lines.next(), lines.next()) {
        (None, _) => {
            let misspelt = MISSPELT_KEYS.iter().find(|name| headers.contains_key(*name));
            Err(Problem::IdempotencyKeyMissing(misspelt.map(HeaderName::as_str)))
        }
        (Some(line), None) => IdempotencyKey::parse(line.as_bytes()).map_err(Problem::IdempotencyKeyInvalid),
        (Some(_), Some(_)) => Err(Problem::IdempotencyKeyInvalid(InvalidKey::Repeated)),
    }
}

/// Requires the media type that a method accepts, without a content coding: the service decodes none.
pub(super) fn require_media_type(headers: &HeaderMap, accepted: &'static str) -> Result<(), Problem> {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let is_accepted = |line: &HeaderValue| line.to_str().is_ok_and(|media_type| is_media_type(media_type, accepted));
    if !lines.next().is_some_and(is_accepted) || lines.next().is_some() {
        return Err(Problem::UnsupportedMediaType(accepted));
    }
    let codings =
        headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    if codings.map(<[u8]>::trim_ascii).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::UnsupportedCoding);
    }
    Ok(())
}

/// Whether `media_type` is `accepted`, with well-formed parameters or none (RFC 9110, 8.3.1).
fn is_media_type(media_type: &str, accepted: &str) -> bool {
    let (essence, mut parameters) = media_type.split_at(media_type.find(';').unwrap_or(media_type.len()));
    if !essence.trim_ascii().eq_ignore_ascii_case(accepted) {
        return false;
    }
    while let Some(parameter) = parameters.trim_ascii_start().strip_prefix(';') {
        let Some(rest) = skip_parameter(parameter.trim_ascii_start()) else { return false };
        parameters = rest;
    }
    parameters.trim_ascii().is_empty()
}

/// What follows `name=value` at the beginning of `text`; all of `text` if no parameter begins. A value may be a quoted string.
fn skip_parameter(text: &str) -> Option<&str> {
    if text.is_empty() || text.starts_with(';') {
        return Some(text);
    }
    let value = skip_token(text)?.strip_prefix('=')?;
    let Some(quoted) = value.strip_prefix('"') else { return skip_token(value) };
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return quoted.get(at + 1..),
            '\\' => _ = chars.next()?,
            _ => {}
        }
    }
    None
}

fn skip_token(text: &str) -> Option<&str> {
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    let rest = text.trim_start_matches(is_token);
    (rest.len() < text.len()).then_some(rest)
}

/// The body, unless it is too large. If the head declares that, it is refused before it is sent.
pub(super) async fn bounded(
    headers: &HeaderMap,
    body: impl Future<Output = Result<Received, Problem>>,
) -> Result<Received, Problem> {
    // The host has checked the number, so one that does not parse here is too large.
    let length = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    let declared = headers.get(header::CONTENT_LENGTH).map_or(0, |value| length(value).unwrap_or(usize::MAX));
    if declared > MAX_BODY_BYTES {
        return Err(Problem::PayloadTooLarge);
    }
    let received = body.await?;
    if received.body.len() <= MAX_BODY_BYTES { Ok(received) } else { Err(Problem::PayloadTooLarge) }
}
