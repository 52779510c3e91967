//! Entity tags, and the requests that depend on them (RFC 9110, 13).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{header_value, whole_number};
use crate::problem::Problem;

/// What the preconditions of a `GET` come to.
pub(super) enum Precondition {
    /// Answer as without them.
    Holds,
    /// The client has this version already: `304`.
    NotModified,
}

/// Judges a `GET` of what now has `etag`, in the order of RFC 9110, 13.2.2: `If-Match` first.
pub(super) fn judge(headers: &HeaderMap, etag: &HeaderValue) -> Result<Precondition, Problem> {
    let mut wanted = entity_tags(headers, header::IF_MATCH).peekable();
    // By the strong comparison: a weak tag names nothing.
    if wanted.peek().is_some() && !wanted.any(|tag| tag == b"*" || tag == etag.as_bytes()) {
        return Err(Problem::PreconditionFailed { etag: etag.clone() });
    }
    // By the weak comparison.
    let is_known = entity_tags(headers, header::IF_NONE_MATCH)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes());
    Ok(if is_known { Precondition::NotModified } else { Precondition::Holds })
}

/// The versions that the `If-Match` of a `PATCH` names, by the strong comparison: a weak tag, or one that is no version,
/// counts for nothing. `*` is refused like a missing header, since it would overwrite what its sender never saw.
pub(super) fn named_versions(headers: &HeaderMap) -> Result<Vec<i64>, Problem> {
    let tags: Vec<_> = entity_tags(headers, header::IF_MATCH).collect();
    if tags.is_empty() || tags.contains(&&b"*"[..]) {
        return Err(Problem::PreconditionRequired);
    }
    let version = |tag: &[u8]| {
        let digits = std::str::from_utf8(tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()?;
        whole_number(digits).filter(|version: &i64| *version >= 1)
    };
    Ok(tags.into_iter().filter_map(version).collect())
}

/// The tag of an order's version.
pub(super) fn etag(version: i64) -> Result<HeaderValue, Problem> {
    header_value(format!("\"{version}\""))
}

/// No tag of ours has a comma in it, so a foreign one that is cut at its commas equals none of them.
fn entity_tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
}
