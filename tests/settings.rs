//! The settings: which values parse, into what, and that the manifests and the operations page list every variable.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use order::settings::{InvalidSetting, Settings, VARIABLES};

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

fn redis_url(address: &str, user: &str, password: &str) -> String {
    let settings = Settings::parse(|asked| match asked {
        "redis_address" => Ok(address.to_owned()),
        "redis_user" => Ok(user.to_owned()),
        "redis_password" => Ok(password.to_owned()),
        _ => variable(asked),
    });
    settings.unwrap().redis_url
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
    let options = r"-c statement_timeout=2400 -c lock_timeout=1800 -c default_transaction_isolation=read\ committed";
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

#[test]
fn user_and_password_of_redis_are_escaped() {
    assert_eq!(redis_url("redis://r:1", "", "a b@/:%'\""), "redis://:a%20b%40%2F%3A%25%27%22@r:1");
    assert_eq!(redis_url("rediss://r:1", "shop@1", "p"), "rediss://shop%401:p@r:1");
    assert_eq!(redis_url("redis://[::1]:6379", "", ""), "redis://[::1]:6379");
    let parsed: redis::ConnectionInfo =
        redis::IntoConnectionInfo::into_connection_info(redis_url("redis://r:1", "u:/", "a b@/:%'\"+")).unwrap();
    assert_eq!(
        (parsed.redis.username.as_deref(), parsed.redis.password.as_deref()),
        (Some("u:/"), Some("a b@/:%'\"+"))
    );
}
