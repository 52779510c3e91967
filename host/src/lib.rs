//! A small host for the order component: it reads `spin.toml` and serves the `.wasm` named there over HTTP, or for messages
//! on a channel in Redis, for machines without Spin and for the end-to-end tests.
//!
//! It behaves like Spin 4.1 in all that the component can notice: the same interfaces (`spin:redis`, `spin:postgres`,
//! `spin:variables`, WASI), the same reuse of instances, the same pool of PostgreSQL connections, the same
//! variables and allowed hosts.
//!
//! It is at least as strict as Spin and fails on the same inputs.
//!
//! What it leaves out: more than one trigger or component, TLS, outbound HTTP, key-value and the other
//! interfaces, variable providers other than the environment, telemetry, mounted files, and the PostgreSQL
//! types that the component does not use. All rows of a query are read before the component sees the first.
//!
//! - `manifest`: `spin.toml` and the environment -> [`manifest::App`]
//! - `allowed_hosts`: the hosts that the component may connect to
//! - `component`: the engine and the linked interfaces
//! - `compiled`: the compiled component, kept for the next start
//! - `state`: what each instance owns, and Spin's limits on instances
//! - `server`: HTTP in front of the instances
//! - `subscriber`: the Redis trigger
//! - `variables`, `redis`, `postgres`, `pg_values`: the interfaces
//! - `pools`: PostgreSQL connections
//! - `log`: the lines that the host logs
//! - `faults`: faults in host calls, injected by tests

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod allowed_hosts;
mod compiled;
mod component;
pub mod faults;
mod log;
pub mod manifest;
mod pg_values;
mod pools;
mod postgres;
mod redis;
mod server;
mod state;
mod subscriber;
mod variables;

/// Interfaces generated from the definitions in the `spin-sdk` package.
#[allow(missing_docs, clippy::all, reason = "generated code")]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use component::Host;
pub use subscriber::Subscriber;
