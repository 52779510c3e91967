//! Links the component with a small stack.
//!
//! Spin keeps the memory of an instance resident, its untouched stack included, and a burst starts hundreds of instances.
//! Rust's default is 1 MiB. `tests/e2e/stack.rs` tries the largest requests on a quarter of what is linked here, and the
//! largest commands of the intake on a third. rustc puts the stack first in memory, so one that overflows traps and never
//! writes into data.

/// In bytes.
const STACK_SIZE: u32 = 64 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK_SIZE}");
    }
}
