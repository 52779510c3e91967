//! Entity tags, and the requests that depend on them (RFC 9110, 13).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{header_value, whole_number};
use crate::problem::Problem;

/// Fails if `If-Match` names other versions only. It comes before `If-None-Match` (13.2.2).
pub(super) fn require_match(headers: &HeaderMap, etag: &HeaderValue) -> Result<(), Problem> {
    let is_wanted = names(headers, header::IF_MATCH, etag).unwrap_or(true);
    if is_wanted { Ok(()) } else { Err(Problem::PreconditionFailed(etag.clone())) }
}

/// Whether `If-None-Match` names `etag`: the client already has this version.
pub(super) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    names(headers, header::IF_NONE_MATCH, etag).unwrap_or(false)
}

/// Whether the list names `etag`; `None` if it has no tag. `*` must be the only entry; otherwise it is not a tag.
fn names(headers: &HeaderMap, list: HeaderName, etag: &HeaderValue) -> Option<bool> {
    let tags = entity_tags(headers, list);
    let is_named = *tags == [b"*"] || tags.iter().any(|tag| strong(tag) == etag.as_bytes());
    (!tags.is_empty()).then_some(is_named)
}

/// A proxy that compresses an answer weakens its tag. The version, which is all that a tag contains, stays true, so a weak tag
/// counts like a strong one, in `If-Match` too.
fn strong(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The versions that the `If-Match` of a `PATCH` names. A tag that is not a version is ignored. `*` is refused like a missing
/// header, since it would overwrite what its sender never saw.
pub(super) fn named_versions(headers: &HeaderMap) -> Result<Vec<i64>, Problem> {
    let tags = entity_tags(headers, header::IF_MATCH);
    if tags.is_empty() || tags.contains(&&b"*"[..]) {
        return Err(Problem::PreconditionRequired);
    }
    let version = |tag: &[u8]| {
        let digits = std::str::from_utf8(strong(tag).strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()?;
        whole_number(digits).filter(|version: &i64| *version >= 1)
    };
    Ok(tags.into_iter().filter_map(version).collect())
}

pub(super) fn etag(version: i64) -> Result<HeaderValue, Problem> {
    header_value(format!("\"{version}\""))
}

/// What a list of tags holds, which are separated by commas and may have commas between their quotes.
fn entity_tags(headers: &HeaderMap, name: HeaderName) -> Vec<&[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| {
            let mut is_quoted = false;
            line.as_bytes().split(move |byte| {
                is_quoted ^= *byte == b'"';
                *byte == b',' && !is_quoted
            })
        })
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
        .collect()
}
