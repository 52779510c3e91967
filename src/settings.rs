//! Spin's variables as typed settings. Pure: the values come from outside.

use std::time::Duration;

use crate::client::Clients;
use connections::{PgSession, is_pg_address, is_redis_address, redis_url};

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
        let filled = |name| match read(name)? {
            value if value.is_empty() => Err(InvalidSetting { name, reason: "must not be empty".into() }),
            value => Ok(value),
        };
        let number = |name, min: u64, max: u64| match read(name)?.parse::<u64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(InvalidSetting { name, reason: format!("must be a whole number from {min} to {max}") }),
        };
        let checked = |name, is_valid: fn(&str) -> bool, reason: &str| match read(name)? {
            value if is_valid(&value) => Ok(value),
            _ => Err(InvalidSetting { name, reason: reason.into() }),
        };

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
            pg_address: PgSession {
                address: &pg_address,
                user: &filled("pg_user")?,
                password: &read("pg_password")?,
                database: &filled("pg_database")?,
                sslmode: &checked("pg_sslmode", is_sslmode, "must be disable, prefer or require")?,
                deadline_ms: pg_deadline_ms,
            }
            .to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../spin.toml");

    const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    /// The default that a line of the manifest gives; none where it is required.
    fn default_of(declared: &str) -> Option<&str> {
        declared.split_once("default = \"")?.1.split_once('"').map(|(default, _)| default)
    }

    /// What the manifest declares, in the order of [`VARIABLES`].
    fn declared() -> [&'static str; VARIABLES.len()] {
        VARIABLES.map(|name| {
            let line = MANIFEST.lines().find(|line| line.starts_with(&format!("{name} = {{")));
            line.unwrap_or_else(|| panic!("spin.toml declares no {name}"))
        })
    }

    fn variable(name: &'static str) -> Result<String, String> {
        let at = VARIABLES.iter().position(|known| *known == name).ok_or("unknown")?;
        Ok(default_of(declared()[at]).unwrap_or(r"it's \ secret").to_owned())
    }

    fn with(name: &'static str, value: &str) -> Result<Settings, InvalidSetting> {
        Settings::parse(|asked| if asked == name { Ok(value.to_owned()) } else { variable(asked) })
    }

    #[test]
    fn the_defaults_parse_into_addresses_and_durations() {
        let settings = Settings::parse(variable).unwrap();
        assert_eq!(settings.redis_url, "redis://127.0.0.1:16379");
        assert_eq!((settings.redis_key_prefix.as_str(), &settings.pg_ca), ("order", &None));
        assert_eq!(settings.key_retention, Duration::from_secs(86_400));
    }

    #[test]
    fn a_session_of_postgresql_is_bounded_and_read_committed() {
        let session: tokio_postgres::Config = Settings::parse(variable).unwrap().pg_address.parse().unwrap();
        assert_eq!(session.get_password(), Some(br"it's \ secret".as_slice()));
        let options =
            r"-c statement_timeout=2400 -c lock_timeout=1800 -c default_transaction_isolation=read\ committed";
        assert_eq!(session.get_options(), Some(format!("{options} -c search_path=public").as_str()));
        assert_eq!(session.get_connect_timeout(), Some(&Duration::from_secs(1)));
        assert_eq!(session.get_target_session_attrs(), tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        let noticed = session.get_keepalives_idle() + session.get_keepalives_interval().unwrap() * 3;
        assert!(session.get_keepalives() && noticed < Duration::from_secs(60), "{noticed:?}");
    }

    #[test]
    fn a_bad_value_is_named_and_never_shown() {
        for (name, value) in [
            ("redis_address", "127.0.0.1:6379"),
            ("redis_address", "redis://127.0.0.1"),
            ("redis_address", "redis://user:pass@host:6379"),
            ("redis_address", "redis://host:6379/1"),
            ("redis_address", "redis://host:0"),
            ("redis_address", "redis://host:+6379"),
            ("redis_address", "redis://[::g]:6379"),
            ("redis_address", "tcp://10.96.0.10:6379"),
            ("redis_key_prefix", "with space"),
            ("redis_key_prefix", ""),
            ("pg_address", "postgres://[::1]:5432"),
            ("pg_address", "postgresql://host:5432"),
            ("pg_address", "postgres://host:65536"),
            ("pg_address", "postgres://:5432"),
            ("pg_user", ""),
            ("pg_sslmode", "verify-full"),
            ("pg_ca", "/etc/ssl/ca.pem"),
            ("key_retention_seconds", "-1"),
            ("redis_deadline_ms", "0"),
            ("pg_deadline_ms", "soon"),
            ("body_deadline_ms", "60001"),
            ("clients", "web:secret-token"),
        ] {
            let error = with(name, value).err().unwrap();
            assert_eq!(error.name, name);
            assert!(value.is_empty() || value == "0" || !error.to_string().contains(value), "{error}");
        }
        assert!(with("pg_address", "postgres://[::1]:5432").err().unwrap().reason.contains("IPv6"));
    }

    #[test]
    fn good_values_are_taken() {
        for (name, value) in [
            ("redis_address", "redis://order-redis:6379"),
            ("redis_address", "rediss://cache.example.com:6380"),
            ("redis_address", "redis://[2001:db8::1]:6379"),
            ("redis_key_prefix", "team:order-2"),
            ("pg_address", "postgres://order-postgres.shop.svc:5432"),
            ("pg_ca", CA),
        ] {
            assert!(with(name, value).is_ok(), "{name} {value}");
        }
    }

    #[test]
    fn a_blank_authority_is_none_and_text_around_one_is_left_to_the_host() {
        for blank in ["", "\n", " \r\n"] {
            assert_eq!(with("pg_ca", blank).unwrap().pg_ca, None, "{blank:?}");
        }
        assert!(with("pg_ca", &format!("Issuer: us\n{CA}")).unwrap().pg_ca.is_some());
    }

    /// A new variable is written once, under `[variables]` of `spin.toml`. What the manifests need besides is printed here.
    #[test]
    fn both_manifests_declare_and_pass_exactly_these_variables() {
        let declared = declared().join("\n");
        let passed = VARIABLES.map(|name| format!("{name} = \"{{{{ {name} }}}}\"")).join("\n");
        for (manifest, component) in [(MANIFEST, "order"), (include_str!("../intake/spin.toml"), "intake")] {
            // The intake declares one more, which is the trigger's.
            assert!(manifest.contains(&format!("\n{declared}\n\n")), "{component}: declare\n{declared}");
            let passed = format!("[component.{component}.variables]\n{passed}\n\n");
            assert!(manifest.contains(&passed), "{component}: pass\n{passed}");
        }
    }

    #[test]
    fn the_operations_page_lists_every_variable_with_its_default() {
        let page = include_str!("../docs/operations.md");
        for (name, declared) in VARIABLES.iter().zip(declared()) {
            let default = match default_of(declared) {
                Some("") => String::new(),
                Some(default) => format!(" `{default}`"),
                None => " required".to_owned(),
            };
            let row = format!("| `{name}` |{default} |");
            assert!(page.contains(&row), "{row}");
        }
    }
}
