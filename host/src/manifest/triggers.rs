//! What calls the component: requests over HTTP or messages in Redis, by one trigger.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

/// The application's trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Called for every request.
    Http,
    /// Called for every message on a channel.
    Redis {
        /// URL of the server.
        address: String,
        /// The channel to subscribe to.
        channel: String,
        /// The component's name, for the log line about a call.
        component: String,
    },
}

/// `[[trigger.http]]` and `[[trigger.redis]]`. What Spin refuses in them is refused here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
    #[serde(default)]
    redis: Vec<RedisTrigger>,
}

#[derive(Deserialize)]
struct HttpTrigger {
    route: String,
    component: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisTrigger {
    channel: String,
    component: String,
    address: Option<String>,
}

/// `[application.trigger.redis]`.
#[derive(Default, Deserialize)]
pub struct TriggerDefaults {
    redis: Option<RedisDefaults>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisDefaults {
    address: String,
}

impl Triggers {
    /// The one trigger, and the name of its component. `fill` fills in a template.
    pub fn resolve(
        self,
        defaults: TriggerDefaults,
        fill: impl Fn(&str) -> Result<String>,
    ) -> Result<(Trigger, String)> {
        match (self.http.as_slice(), self.redis.as_slice()) {
            ([HttpTrigger { route, component }], []) => {
                ensure!(route == "/...", "the route is {route:?}, only \"/...\" is served");
                Ok((Trigger::Http, component.clone()))
            }
            ([], [RedisTrigger { channel, component, address }]) => {
                // An address that nothing defines is not a URL; Spin too fails on it when it connects.
                let default = defaults.redis.map(|redis| redis.address).unwrap_or_default();
                let (address, channel) = (fill(address.as_ref().unwrap_or(&default))?, fill(channel)?);
                Ok((Trigger::Redis { address, channel, component: component.clone() }, component.clone()))
            }
            _ => bail!("only an application with one trigger is served, of HTTP or of Redis"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(triggers: &str, defaults: &str) -> Result<Trigger> {
        let (triggers, defaults): (Triggers, TriggerDefaults) = (toml::from_str(triggers)?, toml::from_str(defaults)?);
        Ok(triggers.resolve(defaults, |template| Ok(template.replace("{{ at }}", "redis://r:1")))?.0)
    }

    const REDIS: &str = "[[redis]]\nchannel = \"bell\"\ncomponent = \"order\"\n";
    const AT: &str = "[redis]\naddress = \"{{ at }}\"\n";

    #[test]
    fn a_redis_trigger_uses_its_own_address_or_the_common_one() {
        for (own, defaults, expected) in [
            ("", AT, "redis://r:1"),
            ("address = \"redis://own:2\"\n", AT, "redis://own:2"),
            ("address = \"{{ at }}\"\n", "", "redis://r:1"),
            ("", "", ""),
        ] {
            let Ok(Trigger::Redis { address, channel, .. }) = resolve(&format!("{REDIS}{own}"), defaults) else {
                panic!("{own}{defaults}");
            };
            assert_eq!((address.as_str(), channel.as_str()), (expected, "bell"));
        }
    }

    #[test]
    fn what_spin_refuses_in_a_trigger_is_refused() {
        let http = "[[http]]\nroute = \"/...\"\ncomponent = \"order\"\n";
        assert_eq!(resolve(http, "").unwrap(), Trigger::Http);
        for (triggers, defaults) in [
            (format!("{REDIS}queue = \"q\"\n"), AT),
            (REDIS.to_owned(), "[redis]\naddress = \"redis://r:1\"\npassword = \"p\"\n"),
            (REDIS.to_owned(), "[redis]\n"),
            (format!("{REDIS}{REDIS}"), AT),
            (format!("{REDIS}{http}"), AT),
            (REDIS.replace("channel = \"bell\"\n", ""), AT),
            ("[[mqtt]]\ntopic = \"t\"\ncomponent = \"order\"\n".to_owned(), AT),
            (String::new(), AT),
        ] {
            assert!(resolve(&triggers, defaults).is_err(), "{triggers}{defaults}");
        }
    }
}
