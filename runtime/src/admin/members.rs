//! The members of a JSON body, each refused with its name when it is wrong: 400 for a form that this call does not take,
//! 422 for a value that cannot be used.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use actix_web::HttpRequest;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::asked::{bad_form, body, header};
use super::people::invalid;
use crate::http::problem::Problem;

/// The longest reason of an operator, bytes.
const LONGEST_WHY: usize = 1_000;
/// The longest that a setting lasts when it goes back by itself: 366 days, s.
const LONGEST_S: u64 = 31_622_400;
/// So much of what was sent is told back.
const TOLD: usize = 64;

/// The members of a body, all of them known, none twice; `null` counts as left out.
#[derive(Debug)]
pub(super) struct Members(BTreeMap<String, Value>);

impl Members {
    /// Reads a body that must be a JSON object with no members but these.
    pub(super) fn of(request: &HttpRequest, bytes: &[u8], known: &[&str]) -> Result<Self, Problem> {
        let members: Self = body(request, bytes)?;
        for name in members.0.keys() {
            if !known.contains(&name.as_str()) {
                let told: String = name.chars().take(TOLD).collect();
                let known = known.join("`, `");
                let problem = bad_form(format!("`{told}` is not known here; known are `{known}`"));
                return Err(problem.with_member("field", told));
            }
        }
        Ok(members)
    }

    /// Reads a text of 1 to so many bytes, without control characters.
    pub(super) fn text(&self, name: &str, longest: usize) -> Result<Option<&str>, Problem> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let Some(text) = value.as_str() else { return Err(wrong_form(name, "a text")) };
        if text.trim().is_empty() || text.len() > longest || text.chars().any(char::is_control) {
            let right = format!("1 to {longest} bytes without control characters");
            return Err(wrong_value(name, &format!("must be {right}")));
        }
        Ok(Some(text))
    }

    /// Reads a text that must be there.
    pub(super) fn needed(&self, name: &str, longest: usize) -> Result<&str, Problem> {
        let missing =
            || bad_form(format!("`{name}` is missing")).with_member("field", name.to_owned());
        self.text(name, longest)?.ok_or_else(missing)
    }

    /// Reads why an operator does something, which must be there.
    pub(super) fn why(&self) -> Result<&str, Problem> {
        self.needed("why", LONGEST_WHY)
    }

    /// Reads a whole number from 1 to so many.
    pub(super) fn number(&self, name: &str, most: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        if !value.is_number() {
            return Err(wrong_form(name, "a whole number"));
        }
        let number = value.as_u64().filter(|number| (1..=most).contains(number));
        let wrong = || wrong_value(name, &format!("must be a whole number from 1 to {most}"));
        number.map(Some).ok_or_else(wrong)
    }

    /// Reads after how many seconds something goes back by itself: `for_s`.
    pub(super) fn lasts(&self) -> Result<Option<Duration>, Problem> {
        Ok(self.number("for_s", LONGEST_S)?.map(Duration::from_secs))
    }

    /// Returns the first of these members that is there.
    pub(super) fn any_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let is_there = |name: &str| self.0.get(name).is_some_and(|value| !value.is_null());
        names.iter().copied().find(|name| is_there(name))
    }
}

/// Reads `If-Match`: a revision, in quotes or not.
pub(super) fn only_at(request: &HttpRequest) -> Result<Option<i64>, Problem> {
    let text = header(request, "if-match")?.filter(|text| *text != "*");
    let Some(text) = text else { return Ok(None) };
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number: Option<i64> = quoted.unwrap_or(text).parse().ok().filter(|number| *number >= 0);
    let wrong = || {
        let status = actix_web::http::StatusCode::BAD_REQUEST;
        Problem::new(status, "bad_header", "A header of the request is not as expected")
            .with_detail("`If-Match` must be the revision of the setting, 0 when nobody has set it")
    };
    number.map(Some).ok_or_else(wrong)
}

/// A value that has the right form and cannot be used.
pub(super) fn wrong_value(name: &str, what: &str) -> Problem {
    invalid(format!("`{name}` {what}")).with_member("field", name.to_owned())
}

fn wrong_form(name: &str, right: &str) -> Problem {
    bad_form(format!("`{name}` must be {right}")).with_member("field", name.to_owned())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let told: String = name.chars().take(TOLD).collect();
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom(format!("`{told}` stands twice")));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn members(text: &str) -> Result<Members, Problem> {
        let request = TestRequest::default().insert_header(("content-type", "application/json"));
        Members::of(&request.to_http_request(), text.as_bytes(), &["value", "why", "for_s"])
    }

    fn told(problem: &Problem) -> (u16, &str) {
        (problem.status.as_u16(), problem.detail.as_deref().unwrap())
    }

    #[test]
    fn whatever_is_wrong_is_told_with_its_name() {
        for (text, expected) in [
            (r#"{"vale":1}"#, (400, "`vale` is not known here; known are `value`, `why`, `for_s`")),
            (r#"{"value":1}"#, (400, "`value` must be a text")),
            (r#"{"value":""}"#, (422, "`value` must be 1 to 9 bytes without control characters")),
            (r#"{"value":"\n"}"#, (422, "`value` must be 1 to 9 bytes without control characters")),
            (r#"{"value":null}"#, (400, "`value` is missing")),
            (r#"{}"#, (400, "`value` is missing")),
        ] {
            let problem =
                members(text).and_then(|members| members.needed("value", 9).map(str::to_owned));
            assert_eq!(told(&problem.unwrap_err()), expected, "{text}");
        }
        for (text, expected) in [
            (r#"{"for_s":"1"}"#, (400, "`for_s` must be a whole number")),
            (r#"{"for_s":0}"#, (422, "`for_s` must be a whole number from 1 to 31622400")),
            (r#"{"for_s":-1}"#, (422, "`for_s` must be a whole number from 1 to 31622400")),
            (r#"{"for_s":1.5}"#, (422, "`for_s` must be a whole number from 1 to 31622400")),
            (r#"{"for_s":31622401}"#, (422, "`for_s` must be a whole number from 1 to 31622400")),
        ] {
            assert_eq!(told(&members(text).unwrap().lasts().unwrap_err()), expected, "{text}");
        }
        let twice = members(r#"{"why":"a","why":"b"}"#).unwrap_err();
        assert!(twice.detail.as_deref().unwrap().contains("`why` stands twice"), "{twice}");
        assert_eq!(members("[]").unwrap_err().status.as_u16(), 400);
        assert_eq!(
            members(r#"{"for_s":60}"#).unwrap().lasts().unwrap(),
            Some(Duration::from_secs(60))
        );
    }

    #[test]
    fn a_revision_may_be_demanded() {
        let at = |text: &str| {
            only_at(&TestRequest::default().insert_header(("if-match", text)).to_http_request())
        };
        assert_eq!(at("7"), Ok(Some(7)));
        assert_eq!(at("\"0\""), Ok(Some(0)));
        assert_eq!(at("*"), Ok(None));
        for wrong in ["", "-1", "W/\"7\"", "x"] {
            assert_eq!(at(wrong).unwrap_err().code, "bad_header", "{wrong}");
        }
        assert_eq!(only_at(&TestRequest::default().to_http_request()), Ok(None));
    }
}
