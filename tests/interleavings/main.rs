//! Every interleaving of up to three requests, with up to three troubles at any moment, over a model of both stores.
//! `docs/reliability.md` describes what that proves.
//!
//! - `call`, `wire`: the service's calls to its stores, and how it makes them
//! - `stores`: the model of PostgreSQL and Redis
//! - `requests`: the service's own code, run for each course of replies
//! - `event`, `world`: what can happen, and the state after it
//! - `troubles`: what may go wrong
//! - `rules`: what must hold
//! - `search`: every schedule, and the shortest one that breaks a rule
//! - `words`: a schedule to read
//! - `diagram`: a schedule as a picture
//! - `cases`: which requests and drains take part
//! - `designs`: other designs in the service's place
//! - `honesty`: the model under the laws that hold for the real stores

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod call;
mod cases;
mod designs;
mod diagram;
mod event;
#[path = "../in_memory/mod.rs"]
mod in_memory;
#[macro_use]
#[allow(dead_code, reason = "the model has no feed")]
#[path = "../laws/stores/mod.rs"]
mod laws;
mod honesty;
mod requests;
mod rules;
mod search;
mod stores;
mod troubles;
mod wire;
mod words;
mod world;
