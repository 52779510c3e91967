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

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "web:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const SHOP: &str = "shop-2:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

    fn identified(clients: &str, lines: &[&str]) -> Result<String, Unauthorized> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, line.parse().unwrap());
        }
        Clients::parse(clients).unwrap().identify(&headers).map(|name| name.0)
    }

    #[test]
    fn an_empty_list_is_open_to_everyone() {
        for clients in ["", " \n\t"] {
            assert_eq!(identified(clients, &[]), Ok(String::new()));
            assert_eq!(identified(clients, &["Basic x", "Bearer y"]), Ok(String::new()));
        }
    }

    #[test]
    fn a_token_names_its_client() {
        let clients = format!("{WEB}\n {SHOP}");
        for (line, name) in [("Bearer test", "web"), ("bearer  test", "web"), ("BEARER test2", "shop-2")] {
            assert_eq!(identified(&clients, &[line]), Ok(name.into()), "{line}");
        }
        let second = "web:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";
        assert_eq!(identified(&format!("{WEB} {second}"), &["Bearer test2"]), Ok("web".into()));
    }

    #[test]
    fn a_value_that_does_not_parse_names_its_entry_and_never_means_open() {
        let digest = &WEB[4..];
        for (clients, number) in [
            ("web".to_owned(), 1),
            (",".to_owned(), 1),
            (format!("{WEB}, {SHOP}"), 1),
            (format!("{WEB} ,"), 2),
            (format!("{SHOP} web:{}", digest.to_uppercase()), 2),
            (format!("web:{}", &digest[1..]), 1),
            (format!("web:{digest}0"), 1),
            (format!("web: {digest}"), 1),
            (format!(":{digest}"), 1),
            (format!("Web:{digest}"), 1),
            (format!("{}:{digest}", "w".repeat(33)), 1),
            (format!("{WEB} {WEB}"), 2),
            (format!("{WEB} {SHOP} shop:{digest}"), 3),
        ] {
            let Err(invalid) = Clients::parse(&clients) else { panic!("{clients} means something") };
            assert!(invalid.starts_with(&format!("entry {number} ")), "{clients}: {invalid}");
            assert!(!invalid.contains(&digest[..8]), "{invalid}");
        }
    }
}
