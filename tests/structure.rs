//! The layout of the code: no two modules need each other, no file is long, no two public things share a name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file, its tests included.
const MAX_LINES: usize = 300;

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

/// The modules right below `crate` that each of them names.
fn needs(source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut needs = BTreeMap::<String, BTreeSet<String>>::new();
    for file in files_in(Path::new(source)) {
        let below = file.strip_prefix(source).unwrap().with_extension("");
        let module = below.iter().next().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        // A group right below the crate would hide names from the check that follows.
        assert!(!text.contains("crate::{"), "{}: name each module in a line of its own", file.display());
        let named = text.split("crate::").skip(1).map(|rest| {
            rest.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').next().unwrap().to_owned()
        });
        needs.entry(module.clone()).or_default().extend(named.filter(|name| *name != module));
    }
    // The crate's own names are not modules, and a module without a file is generated.
    needs.retain(|module, _| module != "lib" && module != "main");
    let known: BTreeSet<_> = needs.keys().cloned().collect();
    for named in needs.values_mut() {
        named.retain(|name| known.contains(name));
    }
    needs
}

/// Removes what needs nothing that is left, until nothing can be removed: what is then left is in a circle.
fn circle(mut needs: BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    loop {
        let free: BTreeSet<_> =
            needs.iter().filter(|(_, named)| named.is_empty()).map(|(module, _)| module.clone()).collect();
        if free.is_empty() {
            return needs.into_keys().collect();
        }
        needs.retain(|module, _| !free.contains(module));
        for named in needs.values_mut() {
            named.retain(|name| !free.contains(name));
        }
    }
}

#[test]
fn no_two_modules_need_each_other() {
    for source in ["src", "host/src"] {
        let needs = needs(source);
        assert!(needs.len() > 8, "{needs:?}");
        assert_eq!(circle(needs), BTreeSet::new(), "{source}: these are in a circle, or lead into one");
    }
}

#[test]
fn a_circle_is_seen() {
    let needs = |pairs: &[(&str, &[&str])]| {
        pairs
            .iter()
            .map(|(from, to)| ((*from).to_owned(), to.iter().map(|name| (*name).to_owned()).collect()))
            .collect()
    };
    let open = needs(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert_eq!(circle(open), BTreeSet::new());
    let closed = needs(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])]);
    assert_eq!(circle(closed), ["a", "b", "c"].map(str::to_owned).into());
}

#[test]
fn no_file_of_the_component_is_long() {
    for file in files_in(Path::new("src")) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", file.display());
    }
}

#[test]
fn no_two_public_things_have_one_name() {
    let mut named = BTreeMap::new();
    for file in files_in(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("pub ")) {
            let line = line.replacen("const fn ", "fn ", 1);
            let mut words = line.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
            let words = words.by_ref().filter(|word| !["async", "unsafe"].contains(word));
            if let [kind @ ("struct" | "enum" | "trait" | "fn" | "const" | "type"), name] =
                words.take(2).collect::<Vec<_>>()[..]
            {
                let before = named.insert(name.to_owned(), file.clone());
                assert!(
                    before.is_none(),
                    "{kind} {name} is in {} and in {}",
                    file.display(),
                    before.unwrap().display()
                );
            }
        }
    }
    assert!(named.len() > 50, "{named:?}");
}
