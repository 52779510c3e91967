//! What Redis holds under a key: the key, a line end, the record.

#![no_main]

#[path = "../../tests/in_memory/mod.rs"]
mod in_memory;
#[path = "../../tests/laws/mod.rs"]
#[allow(dead_code, reason = "each target checks one law")]
mod laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    if let Ok(key) = order::idempotency::IdempotencyKey::parse(&bytes[..at]) {
        laws::record(&key, bytes.get(at + 1..).unwrap_or_default());
    }
});
