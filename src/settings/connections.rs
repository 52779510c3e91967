//! The addresses and options with which connections to the stores are opened.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;

/// `redis://host:port` or `rediss://host:port`.
pub(super) fn is_redis_address(address: &str) -> bool {
    let rest = address.strip_prefix("redis://").or_else(|| address.strip_prefix("rediss://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else { return false };
    let is_ipv6 = || {
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok())
    };
    is_port(port) && (is_name(host) || is_ipv6())
}

/// `postgres://host:port`.
pub(super) fn is_pg_address(address: &str) -> bool {
    let parts = address.strip_prefix("postgres://").and_then(|rest| rest.rsplit_once(':'));
    parts.is_some_and(|(host, port)| is_name(host) && is_port(port))
}

/// A host's name or its IPv4 address.
fn is_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<NonZeroU16>().is_ok()
}

/// The address with its user and password, percent-encoded as a URL's user info has to be.
pub(super) fn redis_url(address: &str, user: &str, password: &str) -> String {
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    match address.split_once("://") {
        Some((scheme, rest)) if !(user.is_empty() && password.is_empty()) => {
            format!("{scheme}://{}:{}@{rest}", encoded(user), encoded(password))
        }
        _ => address.to_owned(),
    }
}

/// A dead peer behind a firewall that drops silently is noticed at the second probe, after 25 s of silence, if
/// `tcp_user_timeout` is over by then; after 35 s at the latest.
const KEEPALIVES: &str = "keepalives=1 keepalives_idle=20 keepalives_interval=5 keepalives_retries=3";

/// The options of each PostgreSQL session. `login` is user, password and database.
pub(super) fn pg_session(address: &str, login: [String; 3], sslmode: &str, deadline_ms: u64) -> String {
    let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    let (host, port) = address.trim_start_matches("postgres://").rsplit_once(':').unwrap_or_default();
    let [user, password, database] = login.map(|value| quoted(&value));
    // lock < statement < deadline: PostgreSQL ends a statement before the component abandons it,
    // since an abandoned one returns to the pool with its connection still busy.
    // The protocol relies on `read committed`, and the tables are in `public`, whatever the defaults of role and database.
    // `read-write` below: a standby does not count as a server.
    let options = format!(
        r"-c statement_timeout={} -c lock_timeout={} -c default_transaction_isolation=read\ committed -c search_path=public",
        deadline_ms * 8 / 10,
        deadline_ms * 6 / 10,
    );
    format!(
        "host={} port={port} user={user} password={password} dbname={database} sslmode={sslmode} connect_timeout={} \
         tcp_user_timeout={} {KEEPALIVES} target_session_attrs=read-write options={}",
        quoted(host),
        // Per address of a name, in whole seconds. From 2 s on, an address that drops packets leaves time for the next.
        (deadline_ms / 2000).max(1),
        // In whole seconds, so rounded up: the deadline comes first.
        deadline_ms.div_ceil(1000),
        quoted(&options),
    )
}
