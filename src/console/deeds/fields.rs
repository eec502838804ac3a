//! What there is to know for a deed, as a form asks for it, and as the API is told.

use actix_web::http::Method;
use serde_json::{Map, Value, json};

use super::super::api::{Change, target};
use super::super::words;
use super::Deed;

/// Where a value goes in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into the path.
    Path,
    /// Into the query.
    Query,
    /// Into the body, as a member.
    Body,
    /// It is the body.
    WholeBody,
    /// Into this header.
    Header(&'static str),
}

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What it is done to: known before anybody is asked.
    Target,
    /// A line.
    Line,
    /// Yes or no.
    Flag,
    /// A whole number.
    Number,
    /// A number of minutes, told to the API as seconds.
    Minutes,
    /// A number of seconds, told to the API as milliseconds.
    Seconds,
    /// A time in UTC.
    Time,
    /// One of these.
    Choice(&'static [(&'static str, &'static str)]),
    /// JSON.
    Json,
    /// These very words, so that nobody does it by a slip of the hand.
    Words(&'static str),
    /// A value that makes two requests one: the same when a form is sent twice.
    Once,
}

/// What there is to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// The name in the form and in the API.
    pub(crate) name: &'static str,
    /// What people are asked.
    pub(crate) label: &'static str,
    /// What helps to answer.
    pub(crate) hint: &'static str,
    /// What kind of value it is.
    pub(crate) kind: Kind,
    /// Where it goes.
    pub(crate) place: Place,
    /// Whether it can be left out.
    pub(crate) optional: bool,
    /// It means nothing, and is left out, when another field has this value.
    pub(crate) unless: Option<(&'static str, &'static str)>,
}

impl Field {
    /// What the deed is done to.
    pub(crate) const fn target(name: &'static str) -> Self {
        Self::new(name, "", (Kind::Target, Place::Path))
    }

    /// Something to be asked for.
    pub(crate) const fn new(
        name: &'static str,
        label: &'static str,
        (kind, place): (Kind, Place),
    ) -> Self {
        Self { name, label, hint: "", kind, place, optional: false, unless: None }
    }

    /// A member of the body.
    pub(crate) const fn body(name: &'static str, label: &'static str, kind: Kind) -> Self {
        Self::new(name, label, (kind, Place::Body))
    }

    /// It can be left out.
    pub(crate) const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// It means nothing when another field has this value.
    pub(crate) const fn unless(mut self, name: &'static str, value: &'static str) -> Self {
        self.unless = Some((name, value));
        self
    }

    /// Says what helps.
    pub(crate) const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}

/// Why it is done: others will read it.
pub(super) const WHY: Field =
    Field::body("why", "Why", Kind::Line).hint("Others read it in the audit log and on the pages.");
/// As [`WHY`], where it may be left out.
pub(super) const PERHAPS_WHY: Field = WHY.optional();
/// For how long it counts.
pub(super) const FOR: Field = Field::body("for_s", "For so many minutes", Kind::Minutes)
    .optional()
    .hint("It goes back by itself then. Leave it empty to keep it.");

/// What came with a form or an address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Takes names and values.
    pub(crate) fn new<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of a name, or nothing.
    pub(crate) fn value(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).unwrap_or_default()
    }
}

impl Deed {
    /// What the API is asked for.
    ///
    /// # Errors
    /// What is missing or wrong, in words.
    pub(crate) fn change(&self, form: &Form) -> Result<Change, String> {
        let (method, path) = self.call;
        let (mut query, mut members, mut headers) = (Vec::new(), Map::new(), Vec::new());
        let mut whole = Value::Null;
        for field in self.fields {
            if field.unless.is_some_and(|(name, value)| form.value(name) == value) {
                continue;
            }
            let Some(value) = field.read(form)? else { continue };
            match field.place {
                Place::Path => {}
                Place::Query => query.push((field.name, plain(&value))),
                Place::Body => drop(members.insert(field.name.to_owned(), value)),
                Place::WholeBody => whole = value,
                Place::Header("if-match") => {
                    headers.push(("if-match", format!("\"{}\"", plain(&value))))
                }
                Place::Header(name) => headers.push((name, plain(&value))),
            }
        }
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = match (whole, method == Method::DELETE.as_str() && members.is_empty()) {
            (Value::Null, true) => Value::Null,
            (Value::Null, false) => Value::Object(members),
            (whole, _) => whole,
        };
        Ok(Change { method, target: target(&self.fill_path(path, form), &query), body, headers })
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Field {
    /// Reads what was given; nothing when it may be left out and is.
    fn read(&self, form: &Form) -> Result<Option<Value>, String> {
        let text = form.value(self.name);
        if self.kind == Kind::Flag {
            // A box that is not ticked is not sent.
            return Ok((!text.is_empty()).then_some(Value::Bool(true)));
        }
        if text.is_empty() {
            return match self.optional {
                true => Ok(None),
                false => Err(format!("“{}” is missing.", self.said())),
            };
        }
        self.value(text).map(Some)
    }

    fn value(&self, text: &str) -> Result<Value, String> {
        let wrong = |right: &str| format!("“{}” must be {right}.", self.said());
        let number = |factor: i64| {
            let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
            number
                .and_then(|number| number.checked_mul(factor))
                .map(Value::from)
                .ok_or_else(|| wrong("a whole number, 0 or more"))
        };
        match self.kind {
            Kind::Target | Kind::Line | Kind::Once => Ok(json!(text)),
            Kind::Flag => Ok(json!(true)),
            Kind::Number => number(1),
            Kind::Minutes => number(60),
            Kind::Seconds => number(1_000),
            Kind::Time => words::from_input(text)
                .map(Value::from)
                .ok_or_else(|| wrong("a date and a time, such as 2026-03-29T02:30")),
            Kind::Choice(choices) => {
                let known = choices.iter().any(|(value, _)| *value == text);
                if known { Ok(json!(text)) } else { Err(wrong("one of those to choose from")) }
            }
            Kind::Json => serde_json::from_str(text).map_err(|error| {
                wrong(&format!("JSON; it is not in line {}: {error}", error.line()))
            }),
            Kind::Words(words) if words == text => Ok(json!(text)),
            Kind::Words(words) => Err(wrong(&format!("these words: {words}"))),
        }
    }

    fn said(&self) -> &'static str {
        if self.label.is_empty() { self.name } else { self.label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: &str, pairs: &[(&str, &str)]) -> Result<Change, String> {
        Deed::find(id).unwrap().change(&Form::new(pairs.iter().copied()))
    }

    #[test]
    fn a_form_becomes_the_request_that_the_contract_wants() {
        let drain = change("nodes.drain", &[("name", "a b"), ("why", "disk"), ("force", "on")]);
        let drain = drain.unwrap();
        assert_eq!(
            (drain.method, drain.target.as_str()),
            ("POST", "/v1/nodes/a%20b/drain?force=true")
        );
        assert_eq!(drain.body, json!({ "why": "disk" }));
        let end = change("sessions.end_user", &[("user", "mary/../x")]).unwrap();
        assert_eq!(end.target, "/v1/users/mary%2F..%2Fx/sessions");
        assert_eq!(end.body, Value::Null);
        let step = change("leader.step_down", &[("hold_ms", "30")]).unwrap();
        assert_eq!(step.body, json!({ "hold_ms": 30_000 }));
        assert_eq!(change("leader.step_down", &[]).unwrap().body, json!({}));
        let set = [("name", "log_filter"), ("value", "debug"), ("why", "x"), ("for_s", "15")];
        assert_eq!(change("settings.set", &set).unwrap().body["for_s"], 900);
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_by_its_label() {
        let missing = change("nodes.drain", &[("name", "a")]).unwrap_err();
        assert_eq!(missing, "“Why” is missing.");
        let all = [("confirm", "end everything"), ("why", "x")];
        let wrong = change("sessions.end_all", &all).unwrap_err();
        assert!(wrong.contains("end all sessions"), "{wrong}");
        let wrong = change("jobs.run", &[("name", "a"), ("params", "{")]).unwrap_err();
        assert!(wrong.contains("JSON"), "{wrong}");
        let wrong = change("jobs.backfill", &[("name", "a"), ("from", "x"), ("to", "y")]);
        assert!(wrong.unwrap_err().contains("date"));
    }

    #[test]
    fn a_definition_is_the_whole_body_under_its_revision() {
        let given = [("name", "a"), ("revision", "7"), ("definition", r#"{"priority":1}"#)];
        let put = change("jobs.put", &given).unwrap();
        assert_eq!((put.method, put.target.as_str()), ("PUT", "/v1/jobs/a"));
        assert_eq!(put.body, json!({ "priority": 1 }));
        assert_eq!(put.headers, [("if-match", "\"7\"".to_owned())]);
    }

    #[test]
    fn what_means_nothing_is_left_out() {
        let given = [
            ("mode", "off"),
            ("message", "back soon"),
            ("retry_after_s", "60"),
            ("why", "done"),
            ("for_s", "5"),
        ];
        let off = change("maintenance.set", &given).unwrap();
        assert_eq!(off.body, json!({ "mode": "off", "why": "done" }));
        let mut given = given;
        given[0].1 = "full";
        let full = change("maintenance.set", &given).unwrap();
        assert_eq!(
            (&full.body["message"], &full.body["for_s"]),
            (&json!("back soon"), &json!(300))
        );
    }

    #[test]
    fn two_clicks_on_run_are_one_run() {
        let run = change("jobs.run", &[("name", "a"), ("once", "k1")]).unwrap();
        assert_eq!(run.headers, [("idempotency-key", "k1".to_owned())]);
        assert_eq!(run.body, json!({}));
    }
}
