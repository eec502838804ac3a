//! One event: a name and a value.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::error::SessionError;

/// Most bytes of an event's value, as JSON.
pub const MAX_DATA: usize = 16_384;

/// Most bytes of an event's name.
const MAX_NAME: usize = 64;
/// What browsers and this crate use themselves.
const TAKEN: [&str; 3] = ["reset", "open", "error"];

/// Something to tell a page: a name, by which it listens, and a value, which it gets as JSON.
///
/// Shown for debugging without the value.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionEvent {
    name: Arc<str>,
    data: Arc<str>,
}

impl SessionEvent {
    /// Makes an event.
    ///
    /// # Errors
    /// [`SessionError::BadEvent`] for a name that is not 1 to 64 of `A-Z a-z 0-9 . _ -`, or is `reset`, `open` or `error`, and for
    /// a value of more than [`MAX_DATA`] bytes; [`SessionError::NotJson`] for one that cannot be written as JSON.
    ///
    /// # Example
    /// ```
    /// use understudy_session::SessionEvent;
    ///
    /// let event = SessionEvent::new("order", &serde_json::json!({ "id": 7, "state": "sent" }))?;
    /// # assert_eq!(event.name(), "order");
    /// # Ok::<(), understudy_session::SessionError>(())
    /// ```
    pub fn new<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Self, SessionError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
            let why = "has 1 to 64 letters, digits, dots, hyphens or underscores";
            return Err(SessionError::BadEvent { field: "name", why });
        }
        if TAKEN.contains(&name) {
            let why = "is not `reset`, `open` or `error`, which mean something else";
            return Err(SessionError::BadEvent { field: "name", why });
        }
        let data = serde_json::to_string(value)
            .map_err(|source| SessionError::NotJson { name: name.to_owned(), source })?;
        if data.len() > MAX_DATA {
            let why = "has at most 16384 bytes as JSON";
            return Err(SessionError::BadEvent { field: "value", why });
        }
        Ok(Self { name: name.into(), data: data.into() })
    }

    /// Takes what a stream kept.
    pub(super) fn kept(name: impl Into<Arc<str>>, data: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), data: data.into() }
    }

    /// Gives the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the value: one line of JSON.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }
}

impl fmt::Debug for SessionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEvent").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t11_an_event_has_a_plain_name_and_one_line_of_json() {
        let event = SessionEvent::new("order.sent", &"a\nb\rc").unwrap();
        assert_eq!((event.name(), event.data()), ("order.sent", r#""a\nb\rc""#));
        assert!(!format!("{event:?}").contains("a\\nb"), "its value is not shown");
        let long = "x".repeat(65);
        for wrong in ["", "a b", "a\nid: 7", "é", "reset", "error", &long] {
            let error = SessionEvent::new(wrong, &1).unwrap_err();
            assert!(matches!(error, SessionError::BadEvent { field: "name", .. }), "{wrong:?}");
        }
        assert!(SessionEvent::new("a", &"x".repeat(MAX_DATA - 2)).is_ok());
        let error = SessionEvent::new("a", &"x".repeat(MAX_DATA - 1)).unwrap_err();
        assert!(matches!(error, SessionError::BadEvent { field: "value", .. }), "{error}");
    }
}
