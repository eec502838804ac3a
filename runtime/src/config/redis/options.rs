//! `REDIS_OPTIONS`: options named as in ioredis, put in the place of our own variables.

use serde_json::{Map, Value};

use super::address::Wrong;
use super::section::Raw;
use crate::config::reader::Reader;

const NAME: &str = "UNDERSTUDY_REDIS_OPTIONS";
const KNOWN: &str = "known are username, password, db, connectTimeout, commandTimeout, tls, \
                     sentinelName (or name), sentinelPassword, redisOptions";

/// Fills what the variables leave open from the JSON object. An option given both ways, differently, is a mistake.
pub(super) fn merge(read: &mut Reader, raw: &mut Raw) {
    let Some(text) = raw.options.take() else {
        return;
    };
    let object = match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return read.problem(NAME, "must be a JSON object"),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return read
                .problem(NAME, format!("is not valid JSON, at line {line} column {column}"));
        }
    };
    merge_object(read, raw, &object, Depth::Top);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Top,
    /// Inside `redisOptions`, where ioredis keeps what is meant for each node of a Cluster.
    Node,
}

fn merge_object(read: &mut Reader, raw: &mut Raw, object: &Map<String, Value>, depth: Depth) {
    for (option, value) in object {
        if option == "redisOptions" && depth == Depth::Top {
            match value.as_object() {
                Some(inner) => merge_object(read, raw, inner, Depth::Node),
                None => read.problem(NAME, "must hold an object as redisOptions"),
            }
            continue;
        }
        let Some((variable, place, text)) = place_of(raw, option, value) else {
            // Its name is not repeated: who mixes up name and value would find a password in the log.
            read.problem(NAME, format!("holds an option that is not known; {KNOWN}"));
            continue;
        };
        match text {
            Err(wrong) => read.problem(NAME, format!("must hold {wrong} as {option}")),
            Ok(text) if place.as_ref().is_some_and(|given| *given != text) => {
                read.problem(NAME, format!("says something else about {option} than {variable}"));
            }
            Ok(text) => {
                if place.replace(text).is_none() {
                    read.respell(variable, format!("{NAME} ({option})"));
                }
            }
        }
    }
}

/// Finds the variable that an option stands for, its place among the raw texts, and the text to put there.
fn place_of<'r>(
    raw: &'r mut Raw,
    option: &str,
    value: &Value,
) -> Option<(&'static str, &'r mut Option<String>, Result<String, Wrong>)> {
    Some(match option {
        "username" => ("UNDERSTUDY_REDIS_USERNAME", &mut raw.username, string(value)),
        "password" => ("UNDERSTUDY_REDIS_PASSWORD", &mut raw.password, string(value)),
        "db" => ("UNDERSTUDY_REDIS_DB", &mut raw.db, number(value)),
        "connectTimeout" => {
            ("UNDERSTUDY_REDIS_CONNECT_TIMEOUT_MS", &mut raw.connect_timeout_ms, number(value))
        }
        "commandTimeout" => {
            ("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", &mut raw.command_timeout_ms, number(value))
        }
        "tls" => ("UNDERSTUDY_REDIS_TLS", &mut raw.tls, tls(value)),
        "sentinelName" | "name" => {
            ("UNDERSTUDY_REDIS_SENTINEL_NAME", &mut raw.sentinel_name, string(value))
        }
        "sentinelPassword" => {
            ("UNDERSTUDY_REDIS_SENTINEL_PASSWORD", &mut raw.sentinel_password, string(value))
        }
        _ => return None,
    })
}

fn string(value: &Value) -> Result<String, Wrong> {
    value.as_str().map(str::to_owned).ok_or_else(|| "a string".to_owned())
}

fn number(value: &Value) -> Result<String, Wrong> {
    value.as_u64().map(|number| number.to_string()).ok_or_else(|| "a whole number".to_owned())
}

/// ioredis takes an object with options of node's TLS; an empty one just turns it on.
fn tls(value: &Value) -> Result<String, Wrong> {
    let is_empty_object = value.as_object().is_some_and(Map::is_empty);
    let on = value.as_bool().or(is_empty_object.then_some(true));
    on.map(|on| on.to_string()).ok_or_else(|| "true, false or {}".to_owned())
}
