//! An Order API that places exactly one order per `Idempotency-Key`.
//!
//! Read in this order:
//!
//! - [`place_order`]: the protocol; the only module that uses both stores
//! - [`change_order`]: how an order's status changes, exactly once under concurrent changes
//! - [`events`]: the feed of changes to orders, for consumers
//! - [`client`]: who calls, identified by a bearer token
//! - [`group_commit`]: concurrent inserts of one instance go to PostgreSQL as one batch
//! - [`insert_order`]: inserts an order alone if its batch failed
//! - [`stores`]: the traits `AnswerCache` (Redis) and `OrderStore` (PostgreSQL): what the protocol needs of them
//! - [`idempotency`]: the key, the fingerprint of an order, the answer, the record kept in Redis
//! - [`order`]: what an order is and how one is read from JSON
//! - [`api`]: routes and handlers, `http::Request<Bytes>` to `http::Response<Bytes>`
//! - [`intake`]: orders that arrive through a queue
//! - [`problem`]: every refusal and failure that a client can see
//! - [`pages`]: HTML for people: the first page, one page per problem
//! - [`trace`]: the log line of a request
//! - [`settings`]: Spin's variables, parsed into typed values
//! - [`timer`]: one timer for the deadlines of all requests
//! - `spin`: the adapters to Spin's host, built for wasm only
//!
//! Dependencies point one way: `spin -> intake -> api -> place_order, change_order, events -> stores -> idempotency -> client, order`.
//!
//! Invariants:
//!
//! - Redis makes it fast; PostgreSQL is the source of truth: whatever Redis loses or garbles changes latency only.
//! - Every write is one statement, whether of one order or of several, so nothing can be left half done.
//! - One answer per key, byte for byte: it is a function of columns that never change.
//! - A refusal and a failure are never stored.
//! - Only `api`, `intake` and `problem` know status codes; only `spin` knows the SDK, the clock and randomness.

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
