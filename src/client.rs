//! Who calls: clients, identified by bearer tokens (RFC 6750), or everyone if no client is configured.

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// A client's name: 1 to 32 of `a-z`, `0-9` and `-`. Empty for all callers of an open service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientName(String);

const MAX_NAME_CHARS: usize = 32;

impl ClientName {
    /// Parses a name that is not empty.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = (1..=MAX_NAME_CHARS).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        is_name.then(|| Self(text.to_owned()))
    }

    /// Whether it is the name of all callers of an open service.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As both stores keep it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who may call. Without entries everyone may, and all callers are one client with an empty name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Clients(Vec<Entry>);

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    name: ClientName,
    /// SHA-256 of a token. A token is 256 random bits, so its digest needs neither salt nor a slow hash: there is no list of
    /// likely tokens to try. There is one of passwords, so a password must not be used.
    digest: [u8; 32],
}

/// The request names no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthorized {
    /// It has no bearer token at all.
    NoToken,
    /// It has a token of no client.
    UnknownToken,
}

impl Clients {
    /// Parses entries `name:sha256`, separated by white space. A name may have several tokens.
    ///
    /// # Errors
    ///
    /// If any entry is malformed: the service then lets no client in. The error gives the entry's number, counted from 1, and
    /// never its text, which may be a token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut entries: Vec<Entry> = Vec::new();
        for (at, entry) in text.split_ascii_whitespace().enumerate() {
            let invalid = |reason| format!("entry {} {reason}", at + 1);
            let (name, digest) = entry.split_once(':').ok_or_else(|| invalid("is not name:sha256"))?;
            let name = ClientName::parse(name)
                .ok_or_else(|| invalid("must begin with a name of 1 to 32 of a-z, 0-9 and -"))?;
            let digest = parse_digest(digest).ok_or_else(|| invalid("must end in 64 lower-case hexadecimal digits"))?;
            if entries.iter().any(|earlier| earlier.digest == digest) {
                return Err(invalid("has the token of an earlier one"));
            }
            entries.push(Entry { name, digest });
        }
        Ok(Self(entries))
    }

    /// Whether everyone may call.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Identifies the client that sent these headers.
    ///
    /// # Errors
    ///
    /// If it is no client. The error does not show what is wrong with a token.
    pub fn identify(&self, headers: &HeaderMap) -> Result<ClientName, Unauthorized> {
        if self.is_open() {
            return Ok(ClientName::default());
        }
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let line = lines.next().ok_or(Unauthorized::NoToken)?.as_bytes();
        let (scheme, token) = line.split_at(line.iter().position(|byte| *byte == b' ').unwrap_or(line.len()));
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Err(Unauthorized::NoToken);
        }
        let token = token.trim_ascii();
        if lines.next().is_some() || token.is_empty() || token.contains(&b' ') {
            return Err(Unauthorized::UnknownToken);
        }
        let digest = <[u8; 32]>::from(Sha256::digest(token));
        // Compares all entries, each in constant time, so the duration shows nothing about a digest.
        let mut found = None;
        for entry in &self.0 {
            if bool::from(entry.digest.ct_eq(&digest)) {
                found = Some(&entry.name);
            }
        }
        found.cloned().ok_or(Unauthorized::UnknownToken)
    }
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    (base16ct::lower::decode(hex, &mut digest).ok()?.len() == digest.len()).then_some(digest)
}
