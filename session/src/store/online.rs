//! Who was here lately: what [`SessionRegister`](super::SessionRegister) tells of it.
//!
//! A user counts as seen when a session of that user was used, noted at most once per touch interval and session. So whoever
//! asks for the last `n` minutes is told of everybody who was here then, and perhaps of some who were here up to one touch
//! interval before: too many, never too few.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::users::is_name;

/// The longest time back that can be asked for, ms: of what is older a store need not know anything.
pub const LONGEST_WINDOW_MS: u64 = 3_600_000;

/// A user who was here lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineUser {
    /// Who.
    pub user: String,
    /// When a session of that user was used, ms since 1970 on the store's clock; up to one touch interval late.
    pub seen_ms: u64,
}

/// Some of them, the latest first in each part of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnlinePage {
    /// The users.
    pub users: Vec<OnlineUser>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<OnlineCursor>,
}

/// Where a page ends. Its text is opaque to those who are given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineCursor {
    /// Part of the store; 0 where there are none.
    pub part: u16,
    /// The last one that was read; `None` at the beginning of a part.
    pub last: Option<OnlineUser>,
}

/// How many were here lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnlineCount {
    /// Users.
    pub users: u64,
    /// Sessions in which nobody is logged in.
    pub guests: u64,
}

impl OnlineCursor {
    /// Writes it as a text for a query.
    #[must_use]
    pub fn to_text(&self) -> String {
        match &self.last {
            None => format!("{}.0.", self.part),
            Some(OnlineUser { user, seen_ms }) => {
                format!("{}.{seen_ms}.{}", self.part, URL_SAFE_NO_PAD.encode(user))
            }
        }
    }

    /// Reads such a text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let part = parts.next()?.parse().ok()?;
        let seen_ms: u64 = parts.next()?.parse().ok()?;
        let name = parts.next()?;
        if name.is_empty() {
            return Some(Self { part, last: None });
        }
        let user = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        is_name(&user).then_some(Self { part, last: Some(OnlineUser { user, seen_ms }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let last = OnlineUser { user: "Zoë .|".to_owned(), seen_ms: 1_764_150_000_123 };
        for last in [Some(last), None] {
            let cursor = OnlineCursor { part: 63, last };
            assert_eq!(OnlineCursor::from_text(&cursor.to_text()), Some(cursor));
        }
        for wrong in ["", "1", "1.2", "x.0.", "1.x.", "1.2.=", "70000.0.", "1.-2.", "1.2.AA"] {
            assert_eq!(OnlineCursor::from_text(wrong), None, "{wrong}");
        }
    }
}
