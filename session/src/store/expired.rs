//! What a store hands out about sessions that are over, and how it is told why one ends.

use std::sync::Arc;

use serde::Serialize;

use crate::record::{Attributes, Locator, Record, Seal};

/// Why somebody ends a session at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Whoever has it wants it so: a logout.
    Asked,
    /// Its user ended all others, and it is one of these.
    Others,
    /// Its user has logged in more often than allowed, and it was the oldest.
    Replaced,
    /// An operator wants it so, or the application.
    Ordered,
    /// Its owner found that it ran out of time. It is told as what a sweep finds.
    OutOfTime,
}

impl End {
    /// Gives the reason that is told; none when the record says it, because it ran out of time.
    #[must_use]
    pub const fn reason(self) -> Option<EndReason> {
        match self {
            Self::Asked => Some(EndReason::Logout),
            Self::Others => Some(EndReason::Others),
            Self::Replaced => Some(EndReason::Replaced),
            Self::Ordered => Some(EndReason::Ended),
            Self::OutOfTime => None,
        }
    }
}

/// Why a session was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It was not used for too long.
    Idle,
    /// It had lived as long as a session may.
    Absolute,
    /// The store lost it before its time was looked at: nobody swept for an hour after its end, the server evicted it for want
    /// of memory, or a node of an older version ended it. Nothing is known of it but its name.
    Vanished,
    /// Whoever had it logged out.
    Logout,
    /// An operator ended it, or the application.
    Ended,
    /// Its user ended all others.
    Others,
    /// Its user logged in elsewhere, more often than allowed.
    Replaced,
}

impl EndReason {
    /// Gives the name that metrics and stores use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Absolute => "absolute",
            Self::Vanished => "vanished",
            Self::Logout => "logout",
            Self::Ended => "ended",
            Self::Others => "others",
            Self::Replaced => "replaced",
        }
    }

    /// Says whether its time was over; else somebody ended it.
    #[must_use]
    pub const fn is_expiry(self) -> bool {
        match self {
            Self::Idle | Self::Absolute | Self::Vanished => true,
            Self::Logout | Self::Ended | Self::Others | Self::Replaced => false,
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

const ALL: [EndReason; 7] = [
    EndReason::Idle,
    EndReason::Absolute,
    EndReason::Vanished,
    EndReason::Logout,
    EndReason::Ended,
    EndReason::Others,
    EndReason::Replaced,
];

/// What a session held when it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Remains {
    /// Its attributes.
    pub attributes: Arc<Attributes>,
    /// The form in which they are stored.
    pub seal: Seal,
}

/// A session that is over: it is gone, and this is what is left to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Which session.
    pub locator: Locator,
    /// Who was logged in.
    pub user: Option<String>,
    /// Why it was over.
    pub reason: EndReason,
    /// When it began, ms since 1970 on the store's clock; unknown when it vanished.
    pub created_ms: Option<u64>,
    /// When it was over, ms since 1970 on the store's clock.
    pub ended_ms: u64,
    /// It was handed out before, and nobody has acknowledged it.
    pub again: bool,
}

impl Expired {
    /// Tells of a session that somebody ends at `now_ms`.
    pub(crate) fn ended(locator: Locator, record: &Record, reason: EndReason, now_ms: u64) -> Self {
        Self {
            locator,
            user: record.user.as_deref().map(str::to_owned),
            reason,
            created_ms: Some(record.created_ms),
            ended_ms: now_ms,
            again: false,
        }
    }

    /// Works out what there is to tell of a session that is over at `now_ms`. An owner ends a session up to the touch slack
    /// earlier than a sweep would, because it knows of all accesses.
    pub(crate) fn of(locator: Locator, record: &Record, slack_ms: u64, now_ms: u64) -> Self {
        let used_until = record.last_access_ms.saturating_add(record.idle_ms);
        let idle_until = used_until.saturating_add(slack_ms);
        // The second: an owner whose estimate of the store's clock is a little ahead.
        let absolute = record.absolute_ms <= idle_until.min(now_ms) || now_ms < used_until;
        let (reason, end) = if absolute {
            (EndReason::Absolute, record.absolute_ms)
        } else {
            (EndReason::Idle, idle_until)
        };
        Self {
            locator,
            user: record.user.as_deref().map(str::to_owned),
            reason,
            created_ms: Some(record.created_ms),
            ended_ms: end.min(now_ms),
            again: false,
        }
    }
}

/// Answer to [`SessionStore::sweep`](super::SessionStore::sweep).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// What is to be told.
    pub expired: Vec<Expired>,
    /// There may be more at once.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecentOps, SecretHash};

    fn expired(absolute_ms: u64, now_ms: u64) -> (EndReason, u64) {
        let record = Record {
            owner: None,
            epoch: 1,
            version: 1,
            last_op: None,
            created_ms: 0,
            absolute_ms,
            last_access_ms: 100,
            idle_ms: 50,
            user: None,
            secret: SecretHash([7; 32]),
            previous_secret: None,
            attributes: Arc::default(),
            recent: RecentOps::default(),
            unknown: std::collections::BTreeMap::new(),
            seal: Seal::Open,
        };
        let expired = Expired::of(Locator::from_bytes([1; 16]), &record, 10, now_ms);
        (expired.reason, expired.ended_ms)
    }

    #[test]
    fn what_ended_first_is_the_reason() {
        assert_eq!(expired(1_000, 500), (EndReason::Idle, 160));
        assert_eq!(expired(1_000, 5_000), (EndReason::Idle, 160));
        assert_eq!(expired(120, 500), (EndReason::Absolute, 120));
    }

    #[test]
    fn an_owner_may_be_early_by_the_slack() {
        assert_eq!(expired(1_000, 152), (EndReason::Idle, 152));
        assert_eq!(expired(156, 155), (EndReason::Idle, 155));
        assert_eq!(expired(126, 125), (EndReason::Absolute, 125));
    }

    #[test]
    fn a_reason_is_read_as_it_is_written() {
        for reason in ALL {
            assert_eq!(EndReason::from_text(reason.as_str()), Some(reason));
        }
        assert_eq!(EndReason::from_text("gone"), None);
    }
}
