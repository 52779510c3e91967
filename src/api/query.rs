//! Strict parsing of queries: what could be read in two ways is refused. So is an unknown parameter, since a misspelt filter
//! would list everything.

use std::borrow::Cow;

use super::whole_number;
use crate::problem::Problem;

/// Most entries on a page.
const MAX_LIMIT: u32 = 100;

/// How many entries a page may have.
pub(super) fn limit(value: &str) -> Result<u32, Problem> {
    let number = whole_number(value).filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| Problem::InvalidParameter("limit must be a whole number from 1 to 100".into()))
}

/// The parameters of a query, in their order, each as sent and decoded.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = Result<Parameter<'_>, Problem>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decoded(name), decoded(value)) {
            (Ok(name), Ok(value)) => Ok(Parameter { as_sent: pair, name, value }),
            (Err(reason), _) => Err(Problem::InvalidParameter(format!("the name of a parameter {reason}"))),
            // A name that is not a word may contain anything, so it is not shown.
            (Ok(name), Err(reason)) => {
                let name = if is_word(&name) { &name } else { "a parameter" };
                Err(Problem::InvalidParameter(format!("{name} {reason}")))
            }
        }
    })
}

/// One parameter of a query.
pub(super) struct Parameter<'a> {
    /// `name=value` in the client's spelling.
    pub as_sent: &'a str,
    pub name: Cow<'a, str>,
    pub value: Cow<'a, str>,
}

fn decoded(text: &str) -> Result<Cow<'_, str>, &'static str> {
    // HTTP/2 lets such bytes through.
    if !text.is_ascii() {
        return Err("has bytes outside ASCII; write them percent-encoded");
    }
    if text.contains('+') {
        return Err("has a plus sign, which some read as a space; write %2B for a plus sign, %20 for a space");
    }
    if text.split('%').skip(1).any(|escape| !escape.as_bytes().first_chunk().is_some_and(is_hex)) {
        return Err("has a percent sign that is not followed by two hexadecimal digits; write %25 for a percent sign");
    }
    percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| "has percent-encoded bytes that are not UTF-8")
}

fn is_hex(digits: &[u8; 2]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}
