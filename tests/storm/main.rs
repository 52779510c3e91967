//! Storms: many clients, two host processes, faults at random, and stores that are flushed, killed, stopped and locked.
//! The stores are private to these tests; `scripts/storm.sh` starts them. Run through `make test` or `make prove`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod clients;
mod cuts;
mod failover;
mod feed;
mod freeze;
mod history;
#[path = "../proxy/mod.rs"]
mod proxy;
mod queue;
mod restarts;
mod service;
mod silence;
mod storm;
mod upgrade;
