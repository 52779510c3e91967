//! What was stored and answered once, and must be read and answered in the same way forever.
//!
//! The files beside this one are data, not the output of the code under test. If a test fails on them, the code is
//! wrong: keys and orders of that time exist, and their clients may return. Never regenerate them.

#![allow(dead_code, reason = "no test binary uses all of it")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// An order, in one of its spellings, and its SHA-256.
#[derive(Deserialize)]
pub struct Fingerprinted {
    pub name: String,
    pub fingerprint: String,
    pub order: Box<RawValue>,
}

/// By version of the fingerprint.
pub fn fingerprints() -> BTreeMap<String, Vec<Fingerprinted>> {
    lists(include_str!("fingerprints.json"))
}

/// An order that was placed, what was stored of it, and its answer.
#[derive(Deserialize)]
pub struct Replay {
    pub name: String,
    pub key: String,
    pub order: Box<RawValue>,
    /// Column by column, as PostgreSQL's `to_jsonb` writes it.
    pub row: Map<String, Value>,
    pub location: String,
    pub etag: String,
    pub body: String,
    /// In hexadecimal digits, by layout number.
    redis: BTreeMap<String, String>,
}

impl Replay {
    /// The key as it is sent: some are quoted.
    pub fn header(&self) -> String {
        format!("\"{}\"", self.key.replace('\\', "\\\\").replace('"', "\\\""))
    }

    pub fn entry(&self, layout: &str) -> Vec<u8> {
        bytes(&self.redis[layout])
    }

    pub fn column(&self, name: &str) -> &str {
        self.row[name].as_str().unwrap_or_else(|| panic!("{} has no text in {name}", self.name))
    }
}

/// By the release that stored them.
pub fn replays() -> BTreeMap<String, Vec<Replay>> {
    lists(include_str!("replays.json"))
}

fn lists<T: for<'de> Deserialize<'de>>(json: &str) -> BTreeMap<String, Vec<T>> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
    members.remove("about").expect("has a description");
    members.into_iter().map(|(name, list)| (name, serde_json::from_str(list.get()).unwrap())).collect()
}

/// From hexadecimal digits.
pub fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
