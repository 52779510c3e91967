//! The fuzz targets without libFuzzer: each one, unchanged from `fuzz/targets/`, over its seeds and small variations of them.
//!
//! libFuzzer needs a nightly compiler. This test does not, so `make test` detects a target that no longer compiles or refuses
//! its own seeds. It explores nothing new: `make fuzz` does that.

use std::collections::BTreeSet;
use std::path::Path;

// Each is a crate of its own in `fuzz/`, with its own laws, of which it checks one.
#[path = "../../fuzz/targets/body.rs"]
#[allow(dead_code, unused_attributes)]
mod body;
#[path = "../../fuzz/targets/key.rs"]
#[allow(dead_code, unused_attributes)]
mod key;
#[path = "../../fuzz/targets/query.rs"]
#[allow(dead_code, unused_attributes)]
mod query;
#[path = "../../fuzz/targets/record.rs"]
#[allow(dead_code, unused_attributes)]
mod record;
#[path = "../../fuzz/targets/request.rs"]
#[allow(dead_code, unused_attributes)]
mod request;

/// The replacement for `libfuzzer_sys::fuzz_target!`: a function that runs the target once.
/// The targets import it by that crate's name, which `main.rs` gives to this one.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:expr) => {
        pub fn run($input: &[u8]) {
            $body;
        }
    };
    // libFuzzer skips input that is not UTF-8.
    (|$input:ident: &str| $body:expr) => {
        pub fn run(bytes: &[u8]) {
            if let Ok($input) = std::str::from_utf8(bytes) {
                $body;
            }
        }
    };
}

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 5] =
    [("body", body::run), ("key", key::run), ("query", query::run), ("record", record::run), ("request", request::run)];

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The seed; the seed cut at each byte; the seed with a bit of each byte flipped.
fn run_around(target: Target, seed: &[u8]) -> usize {
    target(seed);
    for at in 0..seed.len() {
        target(&seed[..at]);
        let mut turned = seed.to_vec();
        turned[at] ^= 1 << (at % 8);
        target(&turned);
    }
    1 + 2 * seed.len()
}

#[test]
fn every_fuzz_target_takes_its_seeds_and_what_is_next_to_them() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in TARGETS {
        let seeds = fuzz.join("seeds").join(name);
        let runs: usize =
            names_in(&seeds).iter().map(|seed| run_around(target, &std::fs::read(seeds.join(seed)).unwrap())).sum();
        println!("seeds: {name}: {runs} runs without libFuzzer");
        assert!(runs > 0);
    }
}

#[test]
fn every_fuzz_target_is_built_and_has_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&fuzz.join("seeds")), names);
    let files: BTreeSet<_> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in(&fuzz.join("targets")), files);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in &names {
        let binary = format!("name = \"{name}\"\npath = \"targets/{name}.rs\"");
        assert!(manifest.contains(&binary), "fuzz/Cargo.toml builds no {name}");
    }
}
