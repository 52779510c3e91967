//! Spin's variables as typed settings. Pure: the values come from outside.

use std::num::NonZeroU16;
use std::time::Duration;

/// Every variable that `spin.toml` passes to the component, in its order.
pub const VARIABLES: [&str; 12] = [
    "redis_host",
    "redis_port",
    "redis_password",
    "pg_host",
    "pg_port",
    "pg_user",
    "pg_password",
    "pg_database",
    "pg_sslmode",
    "key_retention_seconds",
    "redis_deadline_ms",
    "pg_deadline_ms",
];

/// What the component needs to know of the world around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `redis://` URL, password included.
    pub redis_url: String,
    /// tokio-postgres connection string, password included.
    pub pg_address: String,
    /// How long Redis remembers an answer.
    pub key_retention: Duration,
    /// Longest wait for Redis in one request, all its calls together.
    pub redis_deadline: Duration,
    /// Longest wait for one PostgreSQL statement, its connection included.
    pub pg_deadline: Duration,
}

/// A variable that is missing or does not parse. The value is left out: it may be a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("variable {name}: {reason}")]
pub struct InvalidSetting {
    /// The variable's name.
    pub name: &'static str,
    /// What was expected.
    pub reason: String,
}

/// Longest deadline that is of use: a client has long given up.
const MAX_DEADLINE_MS: u64 = 60_000;
/// Ten years.
const MAX_RETENTION_SECONDS: u64 = 315_360_000;

impl Settings {
    /// Reads every one of [`VARIABLES`] through `variable`.
    pub fn parse(variable: impl Fn(&'static str) -> Result<String, String>) -> Result<Self, InvalidSetting> {
        let read = |name| variable(name).map_err(|reason| InvalidSetting { name, reason });
        let filled = |name| match read(name)? {
            value if value.is_empty() => Err(InvalidSetting { name, reason: "must not be empty".into() }),
            value => Ok(value),
        };
        let port = |name| {
            read(name)?
                .parse::<NonZeroU16>()
                .map_err(|_| InvalidSetting { name, reason: "must be a port from 1 to 65535".into() })
        };
        let number = |name, min: u64, max: u64| match read(name)?.parse::<u64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(InvalidSetting { name, reason: format!("must be a whole number from {min} to {max}") }),
        };

        let pg_deadline_ms = number("pg_deadline_ms", 50, MAX_DEADLINE_MS)?;
        Ok(Self {
            redis_url: redis_url(&filled("redis_host")?, port("redis_port")?, &read("redis_password")?),
            pg_address: PgAddress {
                host: filled("pg_host")?,
                port: port("pg_port")?,
                user: filled("pg_user")?,
                password: read("pg_password")?,
                database: filled("pg_database")?,
                sslmode: match filled("pg_sslmode")? {
                    mode if ["disable", "prefer", "require"].contains(&mode.as_str()) => mode,
                    _ => {
                        let reason = "must be disable, prefer or require".into();
                        return Err(InvalidSetting { name: "pg_sslmode", reason });
                    }
                },
                deadline_ms: pg_deadline_ms,
            }
            .to_string(),
            key_retention: Duration::from_secs(number("key_retention_seconds", 1, MAX_RETENTION_SECONDS)?),
            redis_deadline: Duration::from_millis(number("redis_deadline_ms", 1, MAX_DEADLINE_MS)?),
            pg_deadline: Duration::from_millis(pg_deadline_ms),
        })
    }
}

fn redis_url(host: &str, port: NonZeroU16, password: &str) -> String {
    if password.is_empty() {
        return format!("redis://{host}:{port}");
    }
    let password: String = form_urlencoded::byte_serialize(password.as_bytes())
        // A URL's user info knows no plus for a space.
        .map(|part| part.replace('+', "%20"))
        .collect();
    format!("redis://:{password}@{host}:{port}")
}

struct PgAddress {
    host: String,
    port: NonZeroU16,
    user: String,
    password: String,
    database: String,
    sslmode: String,
    deadline_ms: u64,
}

impl std::fmt::Display for PgAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        // lock < statement < deadline: PostgreSQL ends a statement before the component abandons it,
        // since an abandoned one goes back to the pool with its connection still busy.
        let lock_timeout_ms = self.deadline_ms * 6 / 10;
        let statement_timeout_ms = self.deadline_ms * 8 / 10;
        write!(
            f,
            "host={} port={} user={} password={} dbname={} sslmode={} connect_timeout={} tcp_user_timeout={} \
             options='-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms}'",
            quoted(&self.host),
            self.port,
            quoted(&self.user),
            quoted(&self.password),
            quoted(&self.database),
            self.sslmode,
            // Both in whole seconds, so rounded up: the deadline comes first.
            self.deadline_ms.div_ceil(1000),
            self.deadline_ms.div_ceil(1000),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../spin.toml");

    fn variable(name: &'static str) -> Result<String, String> {
        let value = match name {
            "redis_host" | "pg_host" => "127.0.0.1",
            "redis_port" => "16379",
            "redis_password" => "",
            "pg_port" => "15432",
            "pg_user" | "pg_database" => "orders",
            "pg_password" => r"it's \ secret",
            "pg_sslmode" => "disable",
            "key_retention_seconds" => "86400",
            "redis_deadline_ms" => "250",
            "pg_deadline_ms" => "3000",
            _ => return Err("unknown".into()),
        };
        Ok(value.to_owned())
    }

    fn with(name: &'static str, value: &str) -> Result<Settings, InvalidSetting> {
        Settings::parse(|asked| if asked == name { Ok(value.to_owned()) } else { variable(asked) })
    }

    #[test]
    fn the_defaults_parse_into_addresses_and_durations() {
        let settings = Settings::parse(variable).unwrap();
        assert_eq!(settings.redis_url, "redis://127.0.0.1:16379");
        assert_eq!(settings.key_retention, Duration::from_secs(86_400));
        let address: tokio_postgres::Config = settings.pg_address.parse().unwrap();
        assert_eq!(address.get_password(), Some(br"it's \ secret".as_slice()));
        assert_eq!(address.get_options(), Some("-c statement_timeout=2400 -c lock_timeout=1800"));
    }

    #[test]
    fn a_redis_password_is_escaped() {
        let settings = with("redis_password", "a b@/:").unwrap();
        assert_eq!(settings.redis_url, "redis://:a%20b%40%2F%3A@127.0.0.1:16379");
    }

    #[test]
    fn a_bad_value_is_named_and_never_shown() {
        for (name, value) in [
            ("redis_port", "0"),
            ("pg_port", "65536"),
            ("pg_host", ""),
            ("pg_sslmode", "verify-full"),
            ("key_retention_seconds", "-1"),
            ("redis_deadline_ms", "0"),
            ("pg_deadline_ms", "soon"),
        ] {
            let error = with(name, value).unwrap_err();
            assert_eq!(error.name, name);
            assert!(value.is_empty() || value == "0" || !error.to_string().contains(value), "{error}");
        }
    }

    #[test]
    fn the_manifest_passes_exactly_these_variables() {
        let (_, passed) = MANIFEST.split_once("[component.order.variables]\n").unwrap();
        let (passed, _) = passed.split_once("\n\n").unwrap();
        let passed: Vec<_> = passed.lines().map(|line| line.split_once(" = ").unwrap().0).collect();
        assert_eq!(passed, VARIABLES);
    }

    #[test]
    fn the_readme_lists_every_variable_with_its_default() {
        let readme = include_str!("../README.md");
        for name in VARIABLES {
            let declared = MANIFEST.lines().find(|line| line.starts_with(&format!("{name} = {{"))).unwrap();
            let default = match declared.split_once("default = \"") {
                Some((_, rest)) => match rest.split_once('"').unwrap().0 {
                    "" => String::new(),
                    default => format!(" `{default}`"),
                },
                None => " required".to_owned(),
            };
            let row = format!("| `{name}` |{default} |");
            assert!(readme.contains(&row), "{row}");
        }
    }
}
