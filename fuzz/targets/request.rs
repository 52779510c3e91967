//! A whole request, as it is sent.

#![no_main]

#[path = "../../tests/in_memory/mod.rs"]
mod in_memory;
#[path = "../../tests/laws/mod.rs"]
#[allow(dead_code, reason = "each target checks one law")]
mod laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = laws::read_request(bytes) {
        laws::request(&request);
    }
});
