//! What is asked for: query parameters, bodies, names and headers, each refused with its name when it is wrong.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::{HttpMessage as _, HttpRequest, web};
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::http::json_text_problem;
use crate::http::problem::Problem;

/// How many of a list are given when nothing is said, and at most.
const LIMIT: u32 = 100;
const MOST: u32 = 1_000;
/// The beginning of the year 9999, ms: the last times that calendars have are beyond it.
const LAST_MS: i64 = 253_370_764_800_000;
/// The longest reason of an operator, bytes.
const LONGEST_WHY: usize = 1_000;
/// So much of what was sent is told back.
const TOLD: usize = 64;

/// The parameters of a query, all of them known.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the query; a parameter that is none of `known`, or stands twice, is refused.
    ///
    /// # Errors
    /// A 400 problem that names the parameter.
    pub fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        Self::parse(request.query_string(), known)
    }

    /// Reads the text of a query, as [`of`](Self::of) does.
    ///
    /// # Errors
    /// A 400 problem that names the parameter.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text)
            .map_err(|_| bad_query("", "the query cannot be read".to_owned()))?;
        let mut found = BTreeMap::new();
        for (name, value) in pairs.into_inner() {
            let told: String = name.chars().take(TOLD).collect();
            if !known.contains(&name.as_str()) {
                let hint = match known {
                    [] => "this resource takes no parameters".to_owned(),
                    known => format!("known are `{}`", known.join("`, `")),
                };
                return Err(bad_query(&told, format!("`{told}` is not known here; {hint}")));
            }
            if found.insert(name, value).is_some() {
                return Err(bad_query(&told, format!("`{told}` stands twice")));
            }
        }
        Ok(Self(found))
    }

    /// Returns a value as it is.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Reads a value by a function that gives `None` for a wrong one; `right` says what it must be.
    ///
    /// # Errors
    /// A 400 problem that names the parameter.
    pub fn parsed<T>(
        &self,
        name: &str,
        right: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(bad_query(name, format!("`{name}` must be {right}"))),
        }
    }

    /// Reads a whole number.
    ///
    /// # Errors
    /// A 400 problem that names the parameter and the range.
    pub fn number(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Problem> {
        let right = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(name, &right, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// Reads how many of a list are wanted: `limit`, 100 when not said.
    ///
    /// # Errors
    /// A 400 problem.
    pub fn limit(&self) -> Result<u32, Problem> {
        let limit = self.number("limit", 1..=i64::from(MOST))?;
        Ok(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(LIMIT))
    }

    /// Reads true or false; false when not said.
    ///
    /// # Errors
    /// A 400 problem that names the parameter.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        let flag = self.parsed(name, "true or false", |text| text.parse().ok())?;
        Ok(flag.unwrap_or(false))
    }

    /// Reads a time, ms since 1970.
    ///
    /// # Errors
    /// A 400 problem that names the parameter.
    pub fn when(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.parsed(name, TIME, time)
    }
}

/// What a time must be.
const TIME: &str = "ms since 1970, or a time of RFC 3339 such as 2026-03-29T02:30:00Z (a + in a query is written %2B)";

fn time(text: &str) -> Option<i64> {
    let ms = match text.parse::<i64>() {
        Ok(ms) => ms,
        // A + that was not written %2B has become a space.
        Err(_) => {
            let at = text.parse().or_else(|_| text.replace(' ', "+").parse::<Timestamp>());
            at.ok()?.as_millisecond()
        }
    };
    (0..=LAST_MS).contains(&ms).then_some(ms)
}

/// A time in a body, ms since 1970: a number, or a text of RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When(pub i64);

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let at = match value.as_str() {
            Some(text) => time(text),
            None => value.as_i64().filter(|ms| (0..=LAST_MS).contains(ms)),
        };
        at.map(Self).ok_or_else(|| D::Error::custom(format!("a time must be {TIME}")))
    }
}

/// A body without members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Why an operator does something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    #[serde(deserialize_with = "reason")]
    /// The reason, 1 to 1,000 bytes.
    pub why: String,
}

/// Why an operator does something, if they say so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PossibleReason {
    #[serde(default, deserialize_with = "reason")]
    /// The reason, 1 to 1,000 bytes.
    pub why: String,
}

/// Reads a reason, for bodies with more than that: `#[serde(deserialize_with = "reason")]`.
///
/// # Errors
/// When it is empty, too long, or has control characters.
pub fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let why = String::deserialize(deserializer)?;
    if why.trim().is_empty() || why.len() > LONGEST_WHY || why.chars().any(char::is_control) {
        let right = format!("`why` must be 1 to {LONGEST_WHY} bytes without control characters");
        return Err(D::Error::custom(right));
    }
    Ok(why)
}

/// Reads a body that must be a JSON object; none at all counts as an empty one.
///
/// # Errors
/// A 400 problem that names the member, or a 415 one.
pub fn body<T: DeserializeOwned>(request: &HttpRequest, bytes: &[u8]) -> Result<T, Problem> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    if !bytes.is_empty() && !request.content_type().eq_ignore_ascii_case("application/json") {
        return Err(Problem::from_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .with_detail("the body must be sent as application/json"));
    }
    // Left to itself, serde takes an array for a struct too.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(bad_form("the body must be a JSON object"));
    }
    serde_json::from_slice(text).map_err(|error| json_text_problem(&error))
}

/// A JSON value has another form than this call takes.
#[must_use]
pub fn bad_form(detail: impl Into<String>) -> Problem {
    let (code, title) = ("bad_json_value", "The JSON value does not have the expected form");
    Problem::new(StatusCode::BAD_REQUEST, code, title).with_detail(detail.into())
}

/// Reads a header that may stand once.
///
/// # Errors
/// A 400 problem that names the header.
pub fn header<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a str>, Problem> {
    let wrong = |detail: String| {
        let (status, code) = (StatusCode::BAD_REQUEST, "bad_header");
        Err(Problem::new(status, code, "A header of the request is not as expected")
            .with_detail(detail))
    };
    let Ok(header) = HeaderName::try_from(name) else { return Ok(None) };
    let mut values = request.headers().get_all(header);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return wrong(format!("`{name}` stands twice"));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value.trim())),
        Err(_) => wrong(format!("`{name}` must be printable ASCII")),
    }
}

fn bad_query(parameter: &str, detail: String) -> Problem {
    let (code, title) = ("bad_query", "The query of the request is not as expected");
    let problem = Problem::new(StatusCode::BAD_REQUEST, code, title).with_detail(detail);
    if parameter.is_empty() { problem } else { problem.with_member("parameter", parameter) }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn detail(problem: &Problem) -> &str {
        problem.detail.as_deref().unwrap()
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_its_name() {
        let problem = Query::parse("limit=3&stat=dead", &["state", "limit"]).err().unwrap();
        assert_eq!((problem.status.as_u16(), problem.code), (400, "bad_query"));
        assert_eq!(detail(&problem), "`stat` is not known here; known are `state`, `limit`");
        let problem = Query::parse("x=1", &[]).err().unwrap();
        assert!(detail(&problem).contains("takes no parameters"));
        let problem = Query::parse("limit=1&limit=2", &["limit"]).err().unwrap();
        assert_eq!(detail(&problem), "`limit` stands twice");
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_would_be_right() {
        for (query, expected) in [
            ("limit=0", "`limit` must be a whole number from 1 to 1000"),
            ("limit=1001", "`limit` must be a whole number from 1 to 1000"),
            ("limit=x", "`limit` must be a whole number from 1 to 1000"),
        ] {
            let query = Query::parse(query, &["limit"]).unwrap();
            assert_eq!(detail(&query.limit().unwrap_err()), expected);
        }
        let query = Query::parse("system=1&at=yesterday", &["system", "at"]).unwrap();
        assert_eq!(detail(&query.flag("system").unwrap_err()), "`system` must be true or false");
        assert!(detail(&query.when("at").unwrap_err()).contains("RFC 3339"));
    }

    #[test]
    fn a_time_may_be_a_number_or_rfc_3339() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1700000000000", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
            ("2023-11-14T23:13:20%2B01:00", Some(1_700_000_000_000)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500)),
            ("-1", None),
            ("2023-11-14", None),
            ("2023-11-14T22:13:20", None),
            ("9223372036854775807", None),
        ] {
            let query = Query::parse(&format!("at={text}"), &["at"]).unwrap();
            assert_eq!(query.when("at").ok().flatten(), expected, "{text}");
        }
        assert_eq!(serde_json::from_str::<When>("5").unwrap(), When(5));
        let text = "\"2023-11-14T22:13:20Z\"";
        assert_eq!(serde_json::from_str::<When>(text).unwrap(), When(1_700_000_000_000));
        for wrong in ["-1", "1.5", "null", "\"soon\"", "[1]"] {
            let error = serde_json::from_str::<When>(wrong).unwrap_err().to_string();
            assert!(error.contains("RFC 3339"), "{error}");
        }
    }

    #[test]
    fn a_body_is_an_object_with_known_members() {
        let json = TestRequest::default()
            .insert_header(("content-type", "application/json; charset=utf-8"));
        let json = json.to_http_request();
        assert_eq!(body::<Reason>(&json, br#"{"why":"upgrade"}"#).unwrap().why, "upgrade");
        assert!(body::<Nothing>(&TestRequest::default().to_http_request(), b"").is_ok());
        assert_eq!(body::<PossibleReason>(&json, b"{}").unwrap().why, "");
        for (text, expected) in [
            (r#"{"why":"x","wy":1}"#, "`wy`"),
            (r#"{"why":" "}"#, "`why`"),
            (r#"{"why":1}"#, "string"),
            (r#"{"why":"a","why":"b"}"#, "`why`"),
            ("{}", "`why`"),
            (r#"["x"]"#, "object"),
        ] {
            let problem = body::<Reason>(&json, text.as_bytes()).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.code), (400, "bad_json_value"), "{text}");
            assert!(detail(&problem).contains(expected), "{text}: {problem}");
        }
        let form =
            TestRequest::default().insert_header(("content-type", "text/plain")).to_http_request();
        assert_eq!(body::<Reason>(&form, b"{}").unwrap_err().status.as_u16(), 415);
        assert_eq!(body::<Reason>(&json, b"{").unwrap_err().code, "bad_json");
    }
}
