//! `spin.toml` and the environment, resolved: templates filled in, paths resolved against its folder.

use crate::allowed_hosts::AllowedHost;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use triggers::{TriggerDefaults, Triggers};

pub use triggers::Trigger;

mod triggers;

/// The application to serve.
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Empty if the manifest has none.
    pub version: String,
    /// The trigger that calls the component.
    pub trigger: Trigger,
    /// The component's `.wasm`.
    pub source: PathBuf,
    /// How to build it, for the error message when it is missing.
    pub build_command: Option<String>,
    /// The component's own variables.
    pub variables: BTreeMap<String, String>,
    /// The hosts that it may connect to.
    pub allowed_hosts: Vec<AllowedHost>,
}

impl App {
    /// Whether `allowed_outbound_hosts` lets the component connect there.
    pub fn allows(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.allowed_hosts.iter().any(|allowed| allowed.covers(scheme, host, port))
    }
}

#[derive(Deserialize)]
struct Manifest {
    spin_manifest_version: u32,
    application: Application,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    trigger: Triggers,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Application {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    trigger: TriggerDefaults,
}

#[derive(Deserialize)]
struct Variable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
}

#[derive(Deserialize)]
struct Component {
    source: PathBuf,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    build: Option<Build>,
}

#[derive(Deserialize)]
struct Build {
    command: String,
}

/// Reads the manifest at `path`; `environment` looks up a variable of the process.
///
/// # Errors
///
/// Names what is wrong with the manifest, or which variable has no value and how to set it.
pub fn load(path: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<App> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    resolve(&text, directory, environment).with_context(|| path.display().to_string())
}

fn resolve(text: &str, directory: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<App> {
    let manifest = parse(text)?;
    ensure!(
        manifest.spin_manifest_version == 2,
        "spin_manifest_version is {}, only 2 is served",
        manifest.spin_manifest_version
    );
    let values = variable_values(&manifest.variables, environment)?;
    let (trigger, name) = manifest.trigger.resolve(manifest.application.trigger, |template| fill(template, &values))?;
    let component = manifest.component.get(&name).with_context(|| format!("there is no [component.{name}]"))?;
    let variables = component
        .variables
        .iter()
        .map(|(name, template)| Ok((name.clone(), fill(template, &values)?)))
        .collect::<Result<BTreeMap<String, String>>>()?;
    let allowed_hosts = component
        .allowed_outbound_hosts
        .iter()
        .map(|template| {
            AllowedHost::parse(&fill(template, &values)?)
                .with_context(|| format!("allowed_outbound_hosts, entry {template:?}"))
        })
        .collect::<Result<Vec<_>>>()?;
    refuse_tls(&allowed_hosts, &variables)?;
    Ok(App {
        name: manifest.application.name,
        version: manifest.application.version,
        trigger,
        source: directory.join(&component.source),
        build_command: component.build.as_ref().map(|build| build.command.clone()),
        variables,
        allowed_hosts,
    })
}

/// This host has no TLS: a setting that asks for it is an error at start, not at the first request.
fn refuse_tls(allowed_hosts: &[AllowedHost], variables: &BTreeMap<String, String>) -> Result<()> {
    let is_tls = allowed_hosts.iter().any(|host| host.names_scheme("rediss"));
    ensure!(!is_tls, "rediss:// is TLS, which needs Spin: this host has none");
    // Two settings that only the component's own variables show. With `prefer` Spin would use TLS if the server offers it.
    let mode = variables.get("pg_sslmode").map_or("disable", String::as_str);
    ensure!(mode == "disable", "pg_sslmode = {mode:?} is TLS, which needs Spin: this host has none");
    let authority = variables.get("pg_ca").map_or("", String::as_str);
    ensure!(authority.trim().is_empty(), "pg_ca is for TLS, which needs Spin: this host has none");
    Ok(())
}

fn parse(text: &str) -> Result<Manifest> {
    toml::from_str(text).map_err(|error| {
        // The library's own rendering is a picture of several lines.
        let before = error.span().and_then(|span| text.get(..span.start));
        match before {
            Some(before) => anyhow!("line {}: {}", before.split('\n').count(), error.message()),
            None => anyhow!("{}", error.message()),
        }
    })
}

fn variable_values(
    declared: &BTreeMap<String, Variable>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<&str, String>> {
    declared
        .iter()
        .map(|(name, variable)| {
            let key = format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase());
            let value = environment(&key).or_else(|| variable.default.clone());
            match value {
                Some(value) => Ok((name.as_str(), value)),
                None if variable.required => {
                    bail!("variable {name:?} is required and has no value: set {key}")
                }
                None => bail!("variable {name:?} has neither a default nor required = true"),
            }
        })
        .collect()
}

/// Replaces each `{{ name }}`.
fn fill(template: &str, values: &BTreeMap<&str, String>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((literal, tail)) = rest.split_once("{{") {
        let (name, tail) =
            tail.split_once("}}").with_context(|| format!("template {template:?} has no closing braces"))?;
        let name = name.trim();
        let value =
            values.get(name).with_context(|| format!("template {template:?} names an unknown variable {name:?}"))?;
        filled.push_str(literal);
        filled.push_str(value);
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
spin_manifest_version = 2
application = { name = "order", version = "0.1.0" }
[variables]
redis_address = { default = "redis://localhost:6379", description = "an address" }
pg_password = { required = true, secret = true }
[[trigger.http]]
route = "/..."
component = "order"
[component.order]
source = "target/order.wasm"
allowed_outbound_hosts = ["{{ redis_address }}", "postgres://*:*"]
[component.order.variables]
password = "{{pg_password}}"
twice = "{{ redis_address }} {{redis_address}}"
"#;

    fn resolve_with(text: &str, environment: &[(&str, &str)]) -> Result<App> {
        resolve(text, Path::new("dir"), |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        })
    }

    const PASSWORD: (&str, &str) = ("SPIN_VARIABLE_PG_PASSWORD", "secret");

    #[test]
    fn templates_take_defaults_and_the_environment() {
        let app = resolve_with(MANIFEST, &[PASSWORD]).unwrap();
        assert_eq!(app.variables["password"], "secret");
        assert_eq!(app.variables["twice"], "redis://localhost:6379 redis://localhost:6379");
        assert_eq!(app.source, Path::new("dir/target/order.wasm"));
    }

    #[test]
    fn only_allowed_hosts_are_allowed() {
        let app =
            resolve_with(MANIFEST, &[PASSWORD, ("SPIN_VARIABLE_REDIS_ADDRESS", "redis://10.0.0.7:6379")]).unwrap();
        assert!(app.allows("redis", "10.0.0.7", 6379));
        assert!(!app.allows("redis", "10.0.0.7", 6380));
        assert!(!app.allows("redis", "localhost", 6379));
        assert!(app.allows("postgres", "anywhere", 1));
        assert!(!app.allows("mysql", "anywhere", 1));
    }

    #[test]
    fn a_required_variable_without_a_value_is_named_with_its_environment_variable() {
        let error = resolve_with(MANIFEST, &[]).unwrap_err().to_string();
        assert!(error.contains("\"pg_password\""), "{error}");
        assert!(error.contains("SPIN_VARIABLE_PG_PASSWORD"), "{error}");
    }

    #[test]
    fn an_empty_host_is_refused() {
        let error = resolve_with(MANIFEST, &[PASSWORD, ("SPIN_VARIABLE_REDIS_ADDRESS", "redis://:6379")]);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("\"redis://:6379\" is not"), "{error}");
        assert!(error.contains("{{ redis_address }}"), "{error}");
    }

    #[test]
    fn a_template_may_be_a_part_of_the_entry() {
        let text = MANIFEST.replace("\"{{ redis_address }}\"", "\"redis://{{ redis_address }}:6380\"");
        let app = resolve_with(&text, &[PASSWORD, ("SPIN_VARIABLE_REDIS_ADDRESS", "[::1]")]).unwrap();
        assert!(app.allows("redis", "::1", 6380));
    }

    #[test]
    fn tls_is_refused_at_start() {
        let secure = ("SPIN_VARIABLE_REDIS_ADDRESS", "rediss://localhost:6379");
        assert!(resolve_with(MANIFEST, &[PASSWORD, secure]).unwrap_err().to_string().starts_with("rediss:// is TLS"));
        for (mode, is_served) in [("disable", true), ("prefer", false), ("require", false)] {
            let text = format!("{MANIFEST}pg_sslmode = {mode:?}\n");
            assert_eq!(resolve_with(&text, &[PASSWORD]).is_ok(), is_served, "{mode}");
        }
    }

    #[test]
    fn a_template_over_an_unknown_variable_is_refused() {
        let text = MANIFEST.replace("{{pg_password}}", "{{ nobody }}");
        let error = resolve_with(&text, &[PASSWORD]).unwrap_err().to_string();
        assert!(error.contains("\"nobody\""), "{error}");
    }

    #[test]
    fn a_broken_manifest_is_reported_in_one_line_with_its_number() {
        let text = MANIFEST.replace("route = \"/...\"", "route = ");
        let error = resolve_with(&text, &[PASSWORD]).unwrap_err().to_string();
        assert!(error.starts_with("line 8: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
