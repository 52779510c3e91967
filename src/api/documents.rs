//! Texts that change only with the build: HTML pages and the contract.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use sha2::{Digest, Sha256};

use super::preconditions::is_known;
use super::{ApiResult, header_value, not_modified};
use crate::pages;

/// A browser may keep a page, but revalidates it each time.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) fn page(headers: &HeaderMap, html: String) -> ApiResult {
    let mut response = document(headers, "text/html; charset=utf-8", html.into())?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(pages::CONTENT_SECURITY_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

pub(super) fn document(headers: &HeaderMap, media_type: &'static str, text: Bytes) -> ApiResult {
    let digest = Sha256::digest(&text).into_iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(byte));
    let etag = header_value(format!("\"{digest:016x}\""))?;
    if is_known(headers, &etag) {
        return Ok(not_modified(etag, CACHE_CONTROL));
    }
    let mut response = Response::new(text);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    Ok(response)
}
