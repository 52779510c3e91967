//! The syntax of a key: bare, or a structured field's string (RFC 8941). Why not `sfv`: `docs/architecture.md`, "Decisions".

/// Longest key, in characters. It bounds the index entry in PostgreSQL and the key in Redis.
pub const MAX_KEY_CHARS: usize = 255;

/// A client's name for one intended order: 1 to 255 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Why a key was refused. The text is meant for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing is left after trimming or unquoting.
    #[error("the key is empty")]
    Empty,
    /// More than [`MAX_KEY_CHARS`] after unquoting.
    #[error("the key is longer than 255 characters")]
    TooLong,
    /// A control character or a byte outside ASCII.
    #[error("the key has a character that is not printable ASCII")]
    NotPrintable,
    /// A comma may be two header lines joined by a proxy.
    #[error("a key without quotes must not contain a comma or a quote; send it quoted")]
    BareDelimiter,
    /// A quoted key whose quote never closes.
    #[error("the quoted key has no closing quote")]
    Unclosed,
    /// A backslash before anything but a quote or a backslash.
    #[error("in a quoted key a backslash may only stand before a quote or a backslash")]
    BadEscape,
    /// Something other than a list of parameters after the closing quote, such as a second key.
    #[error("text after the closing quote is not a list of parameters (RFC 8941)")]
    TrailingText,
    /// Two header lines.
    #[error("the Idempotency-Key header is given more than once")]
    Repeated,
}

impl IdempotencyKey {
    /// Parses a header's value: a bare key, or a quoted string, whose parameters are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidKey> {
        let value = value.trim_ascii();
        let key = match value {
            [b'"', rest @ ..] => match unquote(rest)? {
                (key, rest) if is_parameters(rest) => key,
                _ => return Err(InvalidKey::TrailingText),
            },
            _ if value.iter().any(|b| matches!(b, b',' | b'"')) => return Err(InvalidKey::BareDelimiter),
            _ => value.to_vec(),
        };
        if key.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if !key.iter().all(|b| matches!(b, b' '..=b'~')) {
            return Err(InvalidKey::NotPrintable);
        }
        if key.len() > MAX_KEY_CHARS {
            return Err(InvalidKey::TooLong);
        }
        String::from_utf8(key).map(Self).map_err(|_| InvalidKey::NotPrintable)
    }

    /// The key without quotes, as both stores keep it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A string and what follows it. `rest` begins after the opening quote.
fn unquote(rest: &[u8]) -> Result<(Vec<u8>, &[u8]), InvalidKey> {
    let mut text = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next().ok_or(InvalidKey::Unclosed)? {
            b'"' => return Ok((text, bytes.as_slice())),
            b'\\' => match bytes.next().ok_or(InvalidKey::Unclosed)? {
                escaped @ (b'"' | b'\\') => text.push(*escaped),
                _ => return Err(InvalidKey::BadEscape),
            },
            byte => text.push(*byte),
        }
    }
}

/// Whether this is a list of parameters, or nothing: `;name` or `;name=value` each.
fn is_parameters(mut rest: &[u8]) -> bool {
    while let Some((b';', parameter)) = rest.split_first() {
        let parameter = split_while(parameter, |byte| byte == b' ').1;
        if !parameter.first().is_some_and(|byte| matches!(byte, b'a'..=b'z' | b'*')) {
            return false;
        }
        rest = split_while(parameter, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')).1;
        if let Some(value) = rest.strip_prefix(b"=") {
            let Some(behind) = skip_value(value) else { return false };
            rest = behind;
        }
    }
    rest.is_empty()
}

/// What follows a parameter's value, if there is one: a string, a byte sequence, a boolean, a number or a token.
fn skip_value(value: &[u8]) -> Option<&[u8]> {
    let (first, rest) = value.split_first()?;
    match first {
        b'"' => {
            let (text, rest) = unquote(rest).ok()?;
            text.iter().all(|byte| matches!(byte, b' '..=b'~')).then_some(rest)
        }
        b':' => {
            let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            split_while(rest, is_base64).1.strip_prefix(b":")
        }
        b'?' => rest.strip_prefix(b"0").or_else(|| rest.strip_prefix(b"1")),
        b'-' => skip_number(rest),
        b'0'..=b'9' => skip_number(value),
        b'a'..=b'z' | b'A'..=b'Z' | b'*' => {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
            Some(split_while(value, is_token).1)
        }
        _ => None,
    }
}

/// At most 15 digits, or 12 with up to 3 after the point.
fn skip_number(value: &[u8]) -> Option<&[u8]> {
    let (whole, rest) = split_while(value, |byte| byte.is_ascii_digit());
    match rest.strip_prefix(b".") {
        None => (1..=15).contains(&whole.len()).then_some(rest),
        Some(rest) => {
            let (fraction, rest) = split_while(rest, |byte| byte.is_ascii_digit());
            ((1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len())).then_some(rest)
        }
    }
}

fn split_while(bytes: &[u8], holds: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !holds(*byte)).unwrap_or(bytes.len()))
}
