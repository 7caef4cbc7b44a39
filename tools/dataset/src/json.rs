//! JSON as it stands in the file.
//!
//! `serde_json::Value` keeps the last of two equal keys and drops the first without a word, as Python does. In an
//! annotation file that is a lost description, so both are kept here.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value whose objects keep all their keys, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    /// Keys and values; a key may come twice.
    Object(Vec<(String, Json)>),
    /// A list.
    Array(Vec<Json>),
    /// A text.
    Text(String),
    /// A whole number that fits.
    Int(i64),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// Any other number.
    Number(f64),
}

impl Json {
    /// What it is, for an error.
    pub(super) fn kind(&self) -> String {
        match self {
            Json::Object(_) => "an object".into(),
            Json::Array(_) => "a list".into(),
            Json::Text(text) => format!("the text {text:?}"),
            Json::Int(number) => number.to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Null => "null".into(),
            // With its point: `1.0` is no `1`.
            Json::Number(number) => format!("{number:?}"),
        }
    }

    /// A number from 0 on.
    pub(super) fn index(&self) -> Option<usize> {
        match self {
            Json::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Number(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_two_equal_keys_are_kept() {
        let json: Json = serde_json::from_str(r#"{"a": [1, -2.5], "a": "x", "b": null}"#).unwrap();
        let numbers = Json::Array(vec![Json::Int(1), Json::Number(-2.5)]);
        let entries = vec![
            ("a".to_owned(), numbers),
            ("a".to_owned(), Json::Text("x".into())),
            ("b".to_owned(), Json::Null),
        ];
        assert_eq!(json, Json::Object(entries));
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<Json>(&deep).is_err());
    }
}
