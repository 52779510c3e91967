//! Strict parsing of queries: what could be read in two ways is refused. So is an unknown parameter, since a misspelt filter
//! would list everything.

use std::borrow::Cow;

use super::whole_number;
use crate::problem::Problem;

const MAX_LIMIT: u32 = 100;

pub(super) struct Parameter<'q> {
    name: &'static str,
    pub value: Cow<'q, str>,
    /// `name=value` in the client's spelling.
    pub as_sent: &'q str,
}

/// The parameters of a query, in the order of `names`. A query has each at most once, and no others.
pub(super) fn parameters<'q, const N: usize>(
    query: &'q str,
    names: [&'static str; N],
) -> Result<[Option<Parameter<'q>>; N], Problem> {
    let mut found = [const { None }; N];
    for as_sent in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = as_sent.split_once('=').unwrap_or((as_sent, ""));
        let name = decoded(name).map_err(|reason| refused("the name of a parameter", reason))?;
        let Some((name, slot)) = names.into_iter().zip(&mut found).find(|(known, _)| *known == name) else {
            // The name may contain anything, so it is not shown.
            return Err(refused("a parameter", &format!("is unknown; known are {}", names.join(", "))));
        };
        let value = decoded(value).map_err(|reason| refused(name, reason))?;
        if slot.replace(Parameter { name, value, as_sent }).is_some() {
            return Err(refused(name, "is given more than once"));
        }
    }
    Ok(found)
}

/// The value of a parameter, if it is given. The error of `read` follows its name.
pub(super) fn value_of<T>(
    parameter: Option<&Parameter<'_>>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Problem> {
    parameter.map(|given| read(&given.value).map_err(|reason| refused(given.name, &reason))).transpose()
}

pub(super) fn limit(value: &str) -> Result<u32, String> {
    let number = whole_number(value).filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| format!("must be a whole number from 1 to {MAX_LIMIT}"))
}

fn refused(name: &str, reason: &str) -> Problem {
    Problem::InvalidParameter(format!("{name} {reason}"))
}

fn decoded(text: &str) -> Result<Cow<'_, str>, &'static str> {
    // HTTP/2 lets such bytes through.
    if !text.is_ascii() {
        return Err("has bytes outside ASCII; write them percent-encoded");
    }
    if text.contains('+') {
        return Err("has a plus sign, which some read as a space; write %2B for a plus sign, %20 for a space");
    }
    let is_hex = |digits: &[u8; 2]| digits.iter().all(u8::is_ascii_hexdigit);
    if text.split('%').skip(1).any(|escape| !escape.as_bytes().first_chunk().is_some_and(is_hex)) {
        return Err("has a percent sign that is not followed by two hexadecimal digits; write %25 for a percent sign");
    }
    percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| "has percent-encoded bytes that are not UTF-8")
}
