//! JSON from strangers: at most 128 levels deep, no duplicate names, no number that does not fit, nothing behind it.
//!
//! What passes is kept to the letter (`RawValue`), so it must be sure to be readable later.

use std::collections::{HashMap, HashSet};
use std::fmt;

use actix_web::http::StatusCode;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::prelude::Problem;

/// Reads a body.
///
/// # Errors
/// A problem that names the line and column, never the content.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Strict
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| problem(&error))?;
    serde_json::from_slice(body).map_err(|error| problem(&error))
}

/// Reads a body that must be an object: left to itself, serde takes an array for a struct too.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    parse::<HashMap<String, IgnoredAny>>(body)?;
    serde_json::from_slice(body).map_err(|error| problem(&error))
}

fn problem(error: &serde_json::Error) -> Problem {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the body ends in the middle of the JSON text",
        serde_json::error::Category::Syntax => "the body is not JSON",
        serde_json::error::Category::Data => {
            "the body is JSON of another form than this call takes"
        }
        serde_json::error::Category::Io => "the body cannot be read",
    };
    Problem::new(StatusCode::BAD_REQUEST, "bad_json", what)
        .with_detail(format!("at line {}, column {}", error.line(), error.column()))
        .with_member("line", error.line())
        .with_member("column", error.column())
}

/// Walks over a JSON text and keeps nothing.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Strict)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a name stands twice in one object"));
            }
            members.next_value_seed(Strict)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn an_array_is_no_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Item {
            item: i64,
        }
        assert_eq!(parse_object::<Item>(b" {\"item\":1}").unwrap().item, 1);
        for body in [&b"[1]"[..], b" [1]", b"[1", b"1", b"null"] {
            assert_eq!(parse_object::<Item>(body).unwrap_err().code, "bad_json");
        }
    }

    #[test]
    fn bad_json_is_refused_and_good_json_kept_to_the_letter() {
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        let bad: [&[u8]; 12] = [
            b"",
            b" ",
            b"{",
            b"NaN",
            b"1e400",
            b"{\"a\":1,\"a\":2}",
            b"[{\"a\":{\"b\":1,\"b\":1}}]",
            b"\"\\ud800\"",
            b"\xef\xbb\xbf1",
            b"1 2",
            b"\"\xff\"",
            deep.as_bytes(),
        ];
        for body in bad {
            let problem = parse::<Box<RawValue>>(body).unwrap_err();
            assert_eq!((problem.status, problem.code), (StatusCode::BAD_REQUEST, "bad_json"));
        }
        for body in [
            "null",
            "[ 1.50 , 12345678901234567890123 ]",
            "{\"a\":{\"a\":1},\"b\":[]}",
            "\"\\u0000ä\"",
        ] {
            assert_eq!(parse::<Box<RawValue>>(body.as_bytes()).unwrap().get(), body);
        }
    }
}
