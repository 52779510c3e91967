//! Links the component with a small stack.
//!
//! Spin keeps an instance's memory resident, its untouched stack included, and a burst starts hundreds of instances.
//! Rust's default is 1 MiB. `tests/e2e/stack.rs` runs the largest requests on a quarter of the stack linked here, and the
//! largest commands of the intake on a third. rustc places the stack first in memory, so an overflow traps and never
//! overwrites data.

/// In bytes.
const STACK_SIZE: u32 = 64 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK_SIZE}");
    }
}
