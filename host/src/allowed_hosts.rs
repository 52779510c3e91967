//! Entries of `allowed_outbound_hosts`: where the component may connect to.

use anyhow::{Context, Result};

/// One entry of `allowed_outbound_hosts`; `None` stands for `*`.
#[derive(Debug, PartialEq)]
pub struct AllowedHost {
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
}

impl AllowedHost {
    /// Reads `scheme://host:port`; the port may be left out if the scheme has a default one.
    ///
    /// # Errors
    ///
    /// If the text is not such an entry.
    pub fn parse(entry: &str) -> Result<Self> {
        let parse = || {
            let (scheme, rest) = entry.split_once("://")?;
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, "*")) => (host, None),
                Some((host, port)) => (host, Some(port.parse().ok()?)),
                None => (rest, Some(default_port(scheme)?)),
            };
            let host = host.trim_matches(['[', ']']);
            let any_or = |text: &str| (text != "*").then(|| text.to_ascii_lowercase());
            (!scheme.is_empty() && !host.is_empty() && !host.contains(['/', '@'])).then(|| Self {
                scheme: any_or(scheme),
                host: any_or(host),
                port,
            })
        };
        parse().with_context(|| format!("{entry:?} is not scheme://host:port"))
    }

    /// Whether the entry is for this scheme alone.
    pub fn names_scheme(&self, scheme: &str) -> bool {
        self.scheme.as_deref() == Some(scheme)
    }

    /// Whether the entry lets the component connect there.
    pub fn covers(&self, scheme: &str, host: &str, port: u16) -> bool {
        let same =
            |mine: &Option<String>, theirs: &str| mine.as_ref().is_none_or(|mine| mine.eq_ignore_ascii_case(theirs));
        same(&self.scheme, scheme) && same(&self.host, host) && self.port.is_none_or(|mine| mine == port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "redis" => Some(6379),
        "postgres" => Some(5432),
        _ => None,
    }
}
