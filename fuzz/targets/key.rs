//! The value of the `Idempotency-Key` header.

#![no_main]

#[path = "../../tests/laws/mod.rs"]
#[allow(dead_code, reason = "one target asks one of the laws")]
mod laws;
#[path = "../../tests/memory/mod.rs"]
mod memory;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| laws::key(value));
