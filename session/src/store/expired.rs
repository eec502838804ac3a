//! What a store hands out about sessions that ran out of time, and how it is told why one ends.

use serde::Serialize;

use crate::record::{Locator, Record};

/// Why somebody ends a session at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody wants it so: a logout. Nobody is told that it ran out.
    Asked,
    /// Its owner found that it ran out of time. It is told as what a sweep finds.
    OutOfTime,
}

/// Why a session was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryReason {
    /// It was not used for too long.
    Idle,
    /// It had lived as long as a session may.
    Absolute,
    /// The store lost it before its time was looked at: nobody swept for an hour after its end, the server evicted it for want
    /// of memory, or a node of an older version ended it. Nothing is known of it but its name.
    Vanished,
}

impl ExpiryReason {
    /// Gives the name that metrics and stores use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Absolute => "absolute",
            Self::Vanished => "vanished",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        [Self::Idle, Self::Absolute, Self::Vanished]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

/// A session that ran out of time: it is gone, and this is what is left to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Which session.
    pub locator: Locator,
    /// Who was logged in.
    pub user: Option<String>,
    /// Why it was over.
    pub reason: ExpiryReason,
    /// When it began, ms since 1970 on the store's clock; unknown when it vanished.
    pub created_ms: Option<u64>,
    /// When it was over, ms since 1970 on the store's clock.
    pub ended_ms: u64,
    /// It was handed out before, and nobody has acknowledged it.
    pub again: bool,
}

impl Expired {
    /// Works out what there is to tell of a session that is over at `now_ms`. An owner ends a session up to the touch slack
    /// earlier than a sweep would, because it knows of all accesses.
    pub(crate) fn of(locator: Locator, record: &Record, slack_ms: u64, now_ms: u64) -> Self {
        let used_until = record.last_access_ms.saturating_add(record.idle_ms);
        let idle_until = used_until.saturating_add(slack_ms);
        // The second: an owner whose estimate of the store's clock is a little ahead.
        let absolute = record.absolute_ms <= idle_until.min(now_ms) || now_ms < used_until;
        let (reason, end) = if absolute {
            (ExpiryReason::Absolute, record.absolute_ms)
        } else {
            (ExpiryReason::Idle, idle_until)
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
    use std::sync::Arc;

    use super::*;
    use crate::record::{RecentOps, Seal, SecretHash};

    fn expired(absolute_ms: u64, now_ms: u64) -> (ExpiryReason, u64) {
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
        assert_eq!(expired(1_000, 500), (ExpiryReason::Idle, 160));
        assert_eq!(expired(1_000, 5_000), (ExpiryReason::Idle, 160));
        assert_eq!(expired(120, 500), (ExpiryReason::Absolute, 120));
    }

    #[test]
    fn an_owner_may_be_early_by_the_slack() {
        assert_eq!(expired(1_000, 152), (ExpiryReason::Idle, 152));
        assert_eq!(expired(156, 155), (ExpiryReason::Idle, 155));
        assert_eq!(expired(126, 125), (ExpiryReason::Absolute, 125));
    }

    #[test]
    fn a_reason_is_read_as_it_is_written() {
        for reason in [ExpiryReason::Idle, ExpiryReason::Absolute, ExpiryReason::Vanished] {
            assert_eq!(ExpiryReason::from_text(reason.as_str()), Some(reason));
        }
        assert_eq!(ExpiryReason::from_text("gone"), None);
    }
}
