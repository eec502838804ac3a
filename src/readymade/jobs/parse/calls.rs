//! What a job of the file does: a call over HTTP, or a command.

use std::str::FromStr as _;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use toml::de::DeValue;

use super::super::command::{self, CommandCall};
use super::super::environment::OWN;
use super::super::http::{self, HttpCall};
use super::fields::{Fields, whole};

/// Headers that belong to the connection, or to Understudy.
const RESERVED: [&str; 6] =
    ["connection", "content-length", "host", "idempotency-key", "transfer-encoding", "upgrade"];

/// Reads the call: the name of its handler, and what that is given.
pub(super) fn read(fields: &mut Fields<'_, '_, '_>) -> Option<(&'static str, Value)> {
    let (has_http, has_command) = (fields.has("http"), fields.has("command"));
    if has_http == has_command {
        let problem = "must have either http or command: what it does";
        fields.wrong_table(problem);
    }
    let http = fields.within("http", "http.").and_then(http_call);
    let command = fields.within("command", "command.").and_then(command_call);
    let json = "a call consists of texts and numbers";
    match (http, command) {
        (Some(call), _) => Some((http::HANDLER, serde_json::to_value(call).expect(json))),
        (None, Some(call)) => Some((command::HANDLER, serde_json::to_value(call).expect(json))),
        (None, None) => None,
    }
}

fn http_call(mut fields: Fields<'_, '_, '_>) -> Option<HttpCall> {
    let methods = [
        ("GET", "GET"),
        ("POST", "POST"),
        ("PUT", "PUT"),
        ("PATCH", "PATCH"),
        ("DELETE", "DELETE"),
        ("HEAD", "HEAD"),
        ("OPTIONS", "OPTIONS"),
    ];
    let method = fields.word("method", &methods).unwrap_or("GET").to_owned();
    let url = url(&mut fields);
    let headers = fields.texts("headers");
    for (name, value) in &headers {
        header(&mut fields, name, value);
    }
    let body = fields.text("body");
    if let Some(body) = &body {
        fields.template("body", body);
    }
    let json = fields.read("json", "a value that JSON can express", json);
    if body.is_some() && fields.has("json") {
        fields.wrong("json", "and body are both there: only one can be sent");
    }
    if let Some(json) = &json {
        json_templates(&mut fields, json);
    }
    let expected = "a list of statuses from 100 to 599 such as [200, 204]";
    let expect = fields.read("expect", expected, |value| numbers(value, 100, 599));
    let timeout = fields.duration("timeout");
    if timeout == Some(Duration::ZERO) {
        fields.wrong("timeout", "must be more than 0");
    }
    let follow_redirects = fields.flag("follow_redirects").unwrap_or_default();
    fields.finish();
    Some(HttpCall {
        method,
        url: url?,
        headers,
        body,
        json,
        expect: expect.unwrap_or_default(),
        timeout_ms: timeout.map_or(http::TIMEOUT_MS, millis),
        follow_redirects,
    })
}

fn url(fields: &mut Fields<'_, '_, '_>) -> Option<String> {
    let expected = "an address such as \"http://127.0.0.1:9000/tick\"";
    let url = fields.required("url", expected, |value| value.as_str().map(str::to_owned))?;
    // With a variable in it only the run can tell.
    if !fields.template("url", &url) && http::address(&url).is_none() {
        fields.wrong("url", &format!("must be {expected}"));
        return None;
    }
    Some(url)
}

fn header(fields: &mut Fields<'_, '_, '_>, name: &str, value: &str) {
    let field = format!("headers.{}", super::shortened(name));
    let Ok(parsed) = HeaderName::from_str(name) else {
        fields.wrong(&field, "is not the name of a header");
        return;
    };
    let lower = parsed.as_str();
    if RESERVED.contains(&lower) || lower.starts_with("understudy-") {
        fields.wrong(&field, "is set by Understudy itself");
    }
    if !fields.template(&field, value) && HeaderValue::from_str(value).is_err() {
        fields.wrong(&field, "has characters that a header cannot have");
    }
}

fn json_templates(fields: &mut Fields<'_, '_, '_>, value: &Value) {
    match value {
        Value::String(text) => {
            fields.template("json", text);
        }
        Value::Array(items) => items.iter().for_each(|item| json_templates(fields, item)),
        Value::Object(members) => members.values().for_each(|item| json_templates(fields, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// TOML as JSON; dates become texts. `None` when there is a number that JSON does not have.
fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(_) => Value::from(whole(value)?),
        DeValue::Float(number) => {
            Value::Number(serde_json::Number::from_f64(number.as_str().parse().ok()?)?)
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let members = table
                .iter()
                .map(|(key, item)| Some((key.get_ref().to_string(), json(item.get_ref())?)));
            Value::Object(members.collect::<Option<_>>()?)
        }
    })
}

fn command_call(mut fields: Fields<'_, '_, '_>) -> Option<CommandCall> {
    let expected = "a list of texts, the program first, such as [\"./backup.sh\", \"--all\"]";
    let argv = fields.required("argv", expected, argv);
    let env = fields.texts("env");
    for (name, value) in &env {
        let field = format!("env.{}", super::shortened(name));
        if name.is_empty() || name.contains(['=', '\0']) {
            fields.wrong(&field, "is not the name of a variable");
        } else if name.starts_with(OWN) {
            fields.wrong(&field, "is set by Understudy itself");
        }
        if value.contains('\0') {
            fields.wrong(&field, "has a character that a variable cannot have");
        }
        fields.template(&field, value);
    }
    let folder = fields.read("folder", "the path of a folder", |value| {
        let path = value.as_str().filter(|path| !path.is_empty() && !path.contains('\0'));
        path.map(str::to_owned)
    });
    let timeout = fields.duration("timeout");
    if timeout == Some(Duration::ZERO) {
        fields.wrong("timeout", "must be more than 0");
    }
    let expected = "a list of exit statuses from 0 to 255 such as [0]";
    let success = fields.read("success", expected, |value| numbers(value, 0, 255));
    fields.finish();
    Some(CommandCall {
        argv: argv?,
        env,
        folder,
        timeout_ms: timeout.map(millis),
        success: success.unwrap_or_else(|| vec![0]),
    })
}

fn argv(value: &DeValue<'_>) -> Option<Vec<String>> {
    let arguments = value.as_array()?.iter();
    let arguments: Option<Vec<String>> = arguments
        .map(|argument| argument.get_ref().as_str().map(str::to_owned))
        .map(|argument| argument.filter(|text| !text.contains('\0')))
        .collect();
    arguments.filter(|all| all.first().is_some_and(|program| !program.is_empty()))
}

/// A list of at least one whole number of a range.
fn numbers<N: TryFrom<i64>>(value: &DeValue<'_>, least: i64, most: i64) -> Option<Vec<N>> {
    let numbers = value.as_array()?.iter().map(|number| {
        let number = whole(number.get_ref()).filter(|it| (least..=most).contains(it))?;
        N::try_from(number).ok()
    });
    numbers.collect::<Option<Vec<N>>>().filter(|all| !all.is_empty())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
