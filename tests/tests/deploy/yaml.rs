//! YAML as JSON, with aliases and merges carried out as the tools do that read these files.

use serde_json::{Map, Value};
use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlLoader};

/// All documents of a text.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let documents = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}"));
    documents.iter().map(value).collect()
}

/// The one document of a text.
pub(super) fn document(text: &str) -> Value {
    let mut all = documents(text);
    assert_eq!(all.len(), 1, "one document is expected");
    all.remove(0)
}

fn value(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(number) => number.parse::<f64>().unwrap().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Boolean(flag) => (*flag).into(),
        Yaml::Array(items) => items.iter().map(value).collect(),
        Yaml::Hash(entries) => Value::Object(object(entries)),
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("an alias that leads nowhere"),
    }
}

/// What an object says itself wins over what is merged into it.
fn object(entries: &Hash) -> Map<String, Value> {
    let mut merged = Map::new();
    let mut own = Map::new();
    for (key, entry) in entries {
        let key = key.as_str().unwrap_or_else(|| panic!("{key:?} is no name"));
        match (key, value(entry)) {
            ("<<", Value::Object(base)) => merged.extend(base),
            ("<<", other) => panic!("{other} cannot be merged"),
            (_, value) => drop(own.insert(key.to_owned(), value)),
        }
    }
    merged.extend(own);
    merged
}

/// What lies at a place such as `/spec/replicas`; fails the test if nothing does.
pub(super) fn at<'a>(value: &'a Value, place: &str) -> &'a Value {
    value.pointer(place).unwrap_or_else(|| panic!("there is no {place} in {value}"))
}

/// The same as text.
pub(super) fn text<'a>(value: &'a Value, place: &str) -> &'a str {
    at(value, place).as_str().unwrap_or_else(|| panic!("{place} is no text"))
}

/// The objects of a list, or of an object.
pub(super) fn each<'a>(value: &'a Value, place: &str) -> Vec<&'a Value> {
    match at(value, place) {
        Value::Array(items) => items.iter().collect(),
        Value::Object(entries) => entries.values().collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            panic!("{place} is {other}")
        }
    }
}

#[test]
fn merges_are_carried_out_and_own_words_win() {
    let merged = document("base: &b {a: 1, b: 2}\nuser:\n  <<: *b\n  b: 3\n");
    assert_eq!(merged["user"], serde_json::json!({"a": 1, "b": 3}));
}
