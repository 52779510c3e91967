//! The query of `GET /orders`, cursor included.

#![no_main]

#[path = "../../tests/in_memory/mod.rs"]
mod in_memory;
#[path = "../../tests/laws/mod.rs"]
#[allow(dead_code, reason = "each target checks one law")]
mod laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| laws::query(query));
