//! An Order API whose creation of an order happens exactly once per `Idempotency-Key`.
//!
//! Read in this order:
//!
//! - [`place_order`]: the protocol, top to bottom; the one place that sees both stores
//! - [`change_order`]: how an order's status changes, once, whatever other clients do meanwhile
//! - [`events`]: the feed: what became of orders, for consumers
//! - [`client`]: who calls, by which token
//! - [`group_commit`]: orders that come together go to PostgreSQL together
//! - [`insert_order`]: what an order does whose group failed
//! - [`stores`]: what the protocol asks of Redis and PostgreSQL: the traits `AnswerCache` and `OrderStore`
//! - [`idempotency`]: the key, the fingerprint of an order, the answer, the record kept in Redis
//! - [`order`]: what an order is and how one is read from JSON
//! - [`api`]: routes and handlers, `http::Request<Bytes>` to `http::Response<Bytes>`
//! - [`intake`]: orders that come by a queue
//! - [`problem`]: every refusal and failure a client can see
//! - [`pages`]: what people see: the first page, a page for each problem
//! - [`trace`]: the line that the log gets for each request
//! - [`settings`]: variables into typed values
//! - [`timer`]: one timer for the deadlines of all requests
//! - `spin`: the glue to Spin's host, built for wasm only
//!
//! Dependencies point one way: `spin -> intake -> api -> place_order, change_order, events -> stores -> idempotency -> client, order`.
//!
//! Invariants:
//!
//! - Redis decides speed, PostgreSQL decides truth: whatever Redis loses or garbles changes latency only.
//! - Every write is one statement, whether of one order or of several, so nothing can be left half done.
//! - One answer per key, byte for byte: it is a function of columns that never change.
//! - A refusal and a failure are never stored.
//! - Only `api`, `intake` and `problem` know status codes; only `spin` knows the SDK, the clock and randomness.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod change_order;
pub mod client;
pub mod events;
pub mod group_commit;
pub mod idempotency;
pub mod insert_order;
pub mod intake;
pub mod order;
pub mod pages;
pub mod place_order;
pub mod problem;
pub mod settings;
pub mod stores;
pub mod timer;
pub mod trace;

#[cfg(target_family = "wasm")]
mod spin;
