//! Looking into an answer of the API: what is not there is empty, so that a page never fails over a member that another
//! version of a node leaves out.

use serde_json::Value;

static NOTHING: Value = Value::Null;

/// Looks at members; a path such as `record.id` goes into objects.
pub(super) trait Look {
    /// The member, or null.
    fn at(&self, path: &str) -> &Value;

    /// The text there, or nothing.
    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    /// The whole number there.
    fn number(&self, path: &str) -> Option<i64> {
        let found = self.at(path);
        // What other programs write may have a fraction.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "times and counts fit; the rest saturates"
        )]
        found.as_i64().or_else(|| found.as_f64().map(|number| number as i64))
    }

    /// Whether `true` stands there.
    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or_default()
    }

    /// The elements of the list there.
    fn list(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The names and values of the object there, by name.
    fn entries(&self, path: &str) -> Vec<(&str, &Value)> {
        let members = self.at(path).as_object();
        members.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
    }

    /// What stands there, as text, whatever it is; nothing for null.
    fn said(&self, path: &str) -> String {
        match self.at(path) {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        }
    }

    /// Whether something stands there.
    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }
}

impl Look for Value {
    fn at(&self, path: &str) -> &Value {
        if path.is_empty() {
            return self;
        }
        path.split('.').try_fold(self, |value, name| value.get(name)).unwrap_or(&NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_is_empty() {
        let value = json!({ "a": { "b": 3, "c": 2.9, "d": "x" }, "e": [1], "f": true, "g": null });
        assert_eq!((value.number("a.b"), value.number("a.c")), (Some(3), Some(2)));
        assert_eq!((value.text("a.d"), value.text("a.b"), value.text("a.x.y")), ("x", "", ""));
        assert_eq!((value.list("e").len(), value.list("a").len()), (1, 0));
        assert!(value.flag("f") && !value.flag("e") && value.has("a") && !value.has("g"));
        assert_eq!((value.said("a.b").as_str(), value.said("g").as_str()), ("3", ""));
        assert_eq!(value.entries("a").len(), 3);
        assert_eq!(value.at(""), &value);
    }
}
