//! Spin's variables as typed settings. Pure: the values come from outside.

use std::time::Duration;

use crate::client::Clients;
use connections::{is_pg_address, is_redis_address, pg_session, redis_url};

mod connections;

/// Every variable that `spin.toml` passes to the component, in its order.
///
/// None ends in `_port`, `_host` or `_addr`: in a cluster containerd-shim-spin replaces a variable with the environment
/// variable of its name, and Kubernetes sets such ones for every Service: `REDIS_PORT=tcp://...` for one named `redis`.
pub const VARIABLES: [&str; 15] = [
    "redis_address",
    "redis_user",
    "redis_password",
    "redis_key_prefix",
    "pg_address",
    "pg_user",
    "pg_password",
    "pg_database",
    "pg_sslmode",
    "pg_ca",
    "clients",
    "key_retention_seconds",
    "redis_deadline_ms",
    "pg_deadline_ms",
    "body_deadline_ms",
];

/// The settings of the component. They contain passwords, so the type has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `redis://` or `rediss://` URL, password included.
    pub redis_url: String,
    /// First part of every key in Redis.
    pub redis_key_prefix: String,
    /// tokio-postgres connection string, password included.
    pub pg_address: String,
    /// PEM of the authority that signed PostgreSQL's certificate, if it is not one of the system's.
    pub pg_ca: Option<String>,
    /// Who may call.
    pub clients: Clients,
    /// How long Redis keeps an answer.
    pub key_retention: Duration,
    /// Longest wait for one call to Redis, its connection included.
    pub redis_deadline: Duration,
    /// Longest wait for one PostgreSQL statement, its connection included.
    pub pg_deadline: Duration,
    /// Longest wait for a whole request body.
    pub body_deadline: Duration,
}

/// A variable that is missing or does not parse. The value is left out: it may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("variable {name}: {reason}")]
pub struct InvalidSetting {
    /// The variable's name.
    pub name: &'static str,
    /// What was expected.
    pub reason: String,
}

/// Longest useful deadline: beyond it a client has given up.
const MAX_DEADLINE_MS: u64 = 60_000;
/// The deadline of a body if the settings do not parse, so that the client still gets the refusal.
pub const DEFAULT_BODY_DEADLINE: Duration = Duration::from_millis(10_000);
/// Ten years.
const MAX_RETENTION_SECONDS: u64 = 315_360_000;
/// Most bytes of a key prefix, which every entry in Redis carries.
const MAX_PREFIX_BYTES: usize = 64;

impl Settings {
    /// Reads each of [`VARIABLES`] with `variable`.
    pub fn parse(variable: impl Fn(&'static str) -> Result<String, String>) -> Result<Self, InvalidSetting> {
        let read = |name| variable(name).map_err(|reason| InvalidSetting { name, reason });
        let number = |name, min: u64, max: u64| match read(name)?.parse::<u64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(InvalidSetting { name, reason: format!("must be a whole number from {min} to {max}") }),
        };
        let checked = |name, is_valid: fn(&str) -> bool, reason: &str| match read(name)? {
            value if is_valid(&value) => Ok(value),
            _ => Err(InvalidSetting { name, reason: reason.into() }),
        };
        let filled = |name| checked(name, |value| !value.is_empty(), "must not be empty");

        let redis_address =
            checked("redis_address", is_redis_address, "must be redis://host:port or rediss://host:port")?;
        let pg_address = checked(
            "pg_address",
            is_pg_address,
            "must be postgres://host:port, the host a name or an IPv4 address: Spin takes no IPv6 address for PostgreSQL",
        )?;
        let pg_deadline_ms = number("pg_deadline_ms", 50, MAX_DEADLINE_MS)?;
        Ok(Self {
            redis_url: redis_url(&redis_address, &read("redis_user")?, &read("redis_password")?),
            redis_key_prefix: checked(
                "redis_key_prefix",
                is_key_prefix,
                "must be 1 to 64 printable ASCII characters without a space",
            )?,
            pg_address: pg_session(
                &pg_address,
                [filled("pg_user")?, read("pg_password")?, filled("pg_database")?],
                &checked("pg_sslmode", is_sslmode, "must be disable, prefer or require")?,
                pg_deadline_ms,
            ),
            pg_ca: Some(checked("pg_ca", is_pem_or_blank, "must be a certificate in PEM, or empty")?)
                .filter(|pem| !pem.trim().is_empty()),
            clients: Clients::parse(&read("clients")?).map_err(|reason| InvalidSetting { name: "clients", reason })?,
            key_retention: Duration::from_secs(number("key_retention_seconds", 1, MAX_RETENTION_SECONDS)?),
            redis_deadline: Duration::from_millis(number("redis_deadline_ms", 1, MAX_DEADLINE_MS)?),
            pg_deadline: Duration::from_millis(pg_deadline_ms),
            body_deadline: Duration::from_millis(number("body_deadline_ms", 1, MAX_DEADLINE_MS)?),
        })
    }
}

fn is_key_prefix(prefix: &str) -> bool {
    (1..=MAX_PREFIX_BYTES).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_sslmode(mode: &str) -> bool {
    ["disable", "prefer", "require"].contains(&mode)
}

/// Whether it looks like PEM. The host parses the certificate each time a connection is opened.
fn is_pem_or_blank(pem: &str) -> bool {
    pem.trim().is_empty() || pem.contains("-----BEGIN CERTIFICATE-----") && pem.contains("-----END CERTIFICATE-----")
}
