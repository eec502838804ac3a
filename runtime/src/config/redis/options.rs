//! `REDIS_OPTIONS`: options named as in ioredis, put in the place of our own variables.

use serde_json::{Map, Value};

use super::Raw;
use super::address::Wrong;
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
            return read.problem(
                NAME,
                format!("is not valid JSON, at line {line} column {column}"),
            );
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
        let (variable, place, text) = match option.as_str() {
            "username" => (
                "UNDERSTUDY_REDIS_USERNAME",
                &mut raw.username,
                string(value),
            ),
            "password" => (
                "UNDERSTUDY_REDIS_PASSWORD",
                &mut raw.password,
                string(value),
            ),
            "db" => ("UNDERSTUDY_REDIS_DB", &mut raw.db, number(value)),
            "connectTimeout" => (
                "UNDERSTUDY_REDIS_CONNECT_TIMEOUT_MS",
                &mut raw.connect_timeout_ms,
                number(value),
            ),
            "commandTimeout" => (
                "UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS",
                &mut raw.command_timeout_ms,
                number(value),
            ),
            "tls" => ("UNDERSTUDY_REDIS_TLS", &mut raw.tls, tls(value)),
            "sentinelName" | "name" => (
                "UNDERSTUDY_REDIS_SENTINEL_NAME",
                &mut raw.sentinel_name,
                string(value),
            ),
            "sentinelPassword" => (
                "UNDERSTUDY_REDIS_SENTINEL_PASSWORD",
                &mut raw.sentinel_password,
                string(value),
            ),
            "redisOptions" if depth == Depth::Top => {
                match value {
                    Value::Object(inner) => merge_object(read, raw, inner, Depth::Node),
                    _ => read.problem(NAME, "must hold an object as redisOptions"),
                }
                continue;
            }
            // Its name is not repeated: who mixes up name and value would find a password in the log.
            _ => {
                read.problem(NAME, format!("holds an option that is not known; {KNOWN}"));
                continue;
            }
        };
        match text {
            Err(wrong) => read.problem(NAME, format!("must hold {wrong} as {option}")),
            Ok(text) if place.as_ref().is_some_and(|given| *given != text) => {
                read.problem(
                    NAME,
                    format!("says something else about {option} than {variable}"),
                );
            }
            Ok(text) => {
                if place.replace(text).is_none() {
                    read.respell(variable, format!("{NAME} ({option})"));
                }
            }
        }
    }
}

fn string(value: &Value) -> Result<String, Wrong> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "a string".to_owned())
}

fn number(value: &Value) -> Result<String, Wrong> {
    value
        .as_u64()
        .map(|number| number.to_string())
        .ok_or_else(|| "a whole number".to_owned())
}

/// ioredis takes an object with options of node's TLS; an empty one just turns it on.
fn tls(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Bool(on) => Ok(on.to_string()),
        Value::Object(options) if options.is_empty() => Ok("true".to_owned()),
        _ => Err("true, false or {}".to_owned()),
    }
}
