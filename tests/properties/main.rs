//! What holds for every key, order, query, record and request, over generated ones.
//!
//! Every run generates the same cases, so a failure repeats and no file of past failures is kept:
//! a case that once failed becomes a named test. `PROPTEST_RNG_SEED=7` generates others, `PROPTEST_CASES=100000` more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::duplicate_mod, reason = "each fuzz target has the laws for itself")]

mod bodies;
mod cursors;
#[path = "../in_memory/mod.rs"]
mod in_memory;
mod keys;
#[path = "../laws/mod.rs"]
mod laws;
mod orders;
mod queries;
mod requests;
mod seeds;

// The fuzz targets import their macro from here: see `seeds`.
extern crate self as libfuzzer_sys;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Three orders that differ only a little.
const ORDERS: [&str; 3] = [
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}]}"#,
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":3,"unitAmount":59900}]}"#,
    r#"{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}],"comment":""}"#,
];

fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    // Shown if a test fails.
    println!("{:?}; PROPTEST_RNG_SEED chooses another", config.rng_seed);
    config
}
