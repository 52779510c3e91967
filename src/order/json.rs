//! Walks untrusted JSON and collects its faults. [`rules`](super::rules) has the rules.
//!
//! Members stay raw until their type is known. So a number keeps its spelling (`1.0` is refused, `1e999` is not a
//! syntax error), duplicate members are detected, and nesting of any depth is skipped without recursion.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One thing wrong with an order, at a JSON Pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// RFC 6901; empty for the whole document.
    pub pointer: String,
    /// For the client.
    pub detail: Cow<'static, str>,
}

/// Why a body is not an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// Not JSON.
    Malformed(String),
    /// JSON, but against the rules: every fault at once.
    Invalid(Vec<Fault>),
}

/// Reads a whole document, or lists every fault in it.
pub(super) fn read<T>(body: &[u8], document: impl FnOnce(&mut Faults, &str) -> Option<T>) -> Result<T, Rejected> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Rejected::Malformed(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut faults = Faults(Vec::new());
    match document(&mut faults, text) {
        Some(value) if faults.0.is_empty() => Ok(value),
        // Malformed text also has a fault here, as it is not an object. Only a body with a fault is parsed again to see which.
        _ => match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Err(Rejected::Invalid(faults.0)),
            Err(error) => Err(Rejected::Malformed(error.to_string())),
        },
    }
}

/// Collects faults. Each reader that returns `None` has added at least one.
pub(super) struct Faults(Vec<Fault>);

/// Formatted only when there is a fault to point at.
pub(super) type Pointer<'a> = &'a dyn fmt::Display;

impl Faults {
    pub(super) fn add<T>(&mut self, pointer: Pointer<'_>, detail: impl Into<Cow<'static, str>>) -> Option<T> {
        self.0.push(Fault { pointer: pointer.to_string(), detail: detail.into() });
        None
    }

    pub(super) fn required<'a, T>(
        &mut self,
        pointer: Pointer<'_>,
        json: Option<&'a RawValue>,
        read: impl FnOnce(&mut Self, Pointer<'_>, &'a RawValue) -> Option<T>,
    ) -> Option<T> {
        match json {
            Some(json) => read(self, pointer, json),
            None => self.add(pointer, "is required"),
        }
    }

    /// The values of an object's members, in the order of `names`.
    pub(super) fn members<'a, const N: usize>(
        &mut self,
        pointer: Pointer<'_>,
        json: &'a str,
        names: [&str; N],
    ) -> Option<[Option<&'a RawValue>; N]> {
        let Ok(members) = members_of(json) else {
            return self.add(pointer, "must be an object whose member names are valid Unicode");
        };
        let mut found = [None; N];
        for (Name(name), value) in members {
            let slot = names.iter().position(|known| *known == name).and_then(|at| found.get_mut(at));
            match slot {
                None => self.add(&member_pointer(pointer, &name), "is not a known field"),
                Some(Some(_)) => self.add(&member_pointer(pointer, &name), "is given more than once"),
                Some(empty) => empty.replace(value),
            };
        }
        Some(found)
    }

    pub(super) fn string(&mut self, pointer: Pointer<'_>, json: &RawValue) -> Option<String> {
        if !json.get().starts_with('"') {
            return self.add(pointer, "must be a string");
        }
        // Well-formed JSON may escape half a surrogate pair, which is not a character.
        let text = serde_json::from_str(json.get()).ok();
        text.or_else(|| self.add(pointer, "must be valid Unicode; it has a lone surrogate"))
    }

    /// The integer of a required member.
    pub(super) fn integer(&mut self, at: Pointer<'_>, json: Option<&RawValue>, min: i64, max: i64) -> Option<i64> {
        let digits = self.required(at, json, |_, _, json| Some(json.get()))?;
        if !digits.starts_with(|c: char| c == '-' || c.is_ascii_digit()) || digits.contains(['.', 'e', 'E']) {
            return self.add(at, "must be an integer, written without fraction or exponent");
        }
        match digits.parse() {
            Ok(value) if (min..=max).contains(&value) => Some(value),
            _ => self.add(at, format!("must be from {min} to {max}")),
        }
    }
}

fn member_pointer(parent: Pointer<'_>, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Borrowed if it has no escapes; a bare `Cow` would not be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object's members as sent, duplicates included.
fn members_of(json: &str) -> serde_json::Result<Vec<(Name<'_>, &RawValue)>> {
    let mut document = serde_json::Deserializer::from_str(json);
    let members = document.deserialize_map(Members)?;
    document.end().map(|()| members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Name<'de>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}
