//! What a store knows of its sessions together: whose they are, how many there are, and an order to page through them.
//!
//! Beside its sessions a store keeps, for each user, a *roll*: one [`Place`] for each session of that user. The record of
//! a session says whose it is; the roll only says where to look, and may name sessions that are over or another's, but must
//! never leave out one that somebody can use. How a login keeps that promise is told in [`crate::users`]. In the same way
//! there is a list of all sessions by their public id ([`Locator::public_id`]).
//!
//! Nothing here looks through the keys of a store: what it costs depends on what is asked for, not on what else is there.

use async_trait::async_trait;
use understudy_runtime::ids::NodeId;

use super::StoreError;
use super::online::{OnlineCount, OnlineCursor, OnlinePage};
use crate::record::{Locator, Token};

/// How long what a login has begun is left alone by those who tidy up, ms on the store's clock: longer than any login
/// takes.
pub const LEFT_ALONE_MS: u64 = 60_000;

/// Answers questions about sessions together. Each method is one atomic step, except where it says otherwise, and may be
/// sent again after [`StoreError::Unavailable`].
#[async_trait]
pub trait SessionRegister: Send + Sync {
    /// Notes that a login is about to make a session the user's, before anything else is done about it.
    ///
    /// A place that the session has already is kept as it is, but for its time. With [`Enrolment::most`] nothing is noted
    /// when so many other sessions have a place; the caller may strike those that are over, and try again.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError>;

    /// Notes that the login was carried out: from now on the place counts among those that stand.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError>;

    /// Says which sessions are to be ended, for good: a login that finds its place condemned ends its own session. Gives
    /// every condemned place, also those of before, in case nobody came to carry it out.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError>;

    /// Strikes places off the roll, each only if it is still as it was seen: a login may have gone on meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError>;

    /// Reads the roll of a user, the oldest places first.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn roll(&self, user: &str) -> Result<Roll, StoreError>;

    /// Looks at sessions without owning them; gives what was seen of each, in their order. Not one step: each session as it
    /// was at some moment.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError>;

    /// Reads up to `limit` sessions behind `after`, in an order that does not change. Not one step: a session that is there
    /// from the first page to the last is on exactly one of them.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError>;

    /// Finds the sessions whose public id begins so; a few at most.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError>;

    /// Counts. Sessions that ran out of time may be counted until they are swept.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn count(&self) -> Result<Count, StoreError>;

    /// Notes that a session was used, by its user or by somebody who is not logged in. Not fenced: to have been seen only
    /// grows. A store that can tell it from its sessions need not do anything.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn seen(&self, locator: Locator, user: Option<&str>) -> Result<(), StoreError>;

    /// Notes that a session without a user has one now: it counts no more as a guest.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn guest_left(&self, locator: Locator) -> Result<(), StoreError>;

    /// Reads up to `limit` users behind `after` of whom a session was used within this time, at most
    /// [`LONGEST_WINDOW_MS`](super::online::LONGEST_WINDOW_MS): all of those, and perhaps some who were seen up to one touch
    /// slack before. Users without a session are left out. Not one step.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError>;

    /// Counts such users, and such sessions without a user. Some who have left meanwhile may be counted.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError>;

    /// Tells which node may still show a session that was ended, because it owned it and its lease has not run out.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError>;
}

/// A login that is about to be tried.
#[derive(Debug, Clone, Copy)]
pub struct Enrolment<'a> {
    /// Who logs in.
    pub user: &'a str,
    /// In which session.
    pub locator: Locator,
    /// Most sessions that the user may have, this one among them.
    pub most: Option<u32>,
    /// How long the session lives at most from now on, ms.
    pub lifetime_ms: u64,
}

/// Answer to [`SessionRegister::enroll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// The session has a place.
    In {
        /// Which.
        place: Place,
        /// It had one before: it must not be struck off when this login fails.
        again: bool,
    },
    /// The user has as many as allowed.
    Full,
    /// The session is to be ended.
    Condemned,
}

/// Answer to [`SessionRegister::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The place stands.
    Stands {
        /// How many of the user's places do.
        standing: u64,
    },
    /// There is no such place any more, or it is condemned: the session must be ended.
    Lost,
}

/// Which places are condemned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condemn {
    /// All that there are at this moment.
    All,
    /// All that there are at this moment, but this one.
    Others(Locator),
    /// Of those that stand, the oldest, so that so many are left.
    Beyond(u32),
}

/// A session on the roll of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the latest login that it is for began, ms since 1970 on the store's clock.
    pub at_ms: u64,
    /// Which session.
    pub locator: Locator,
}

/// How far a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The login is under way, or was left half-way.
    Begun,
    /// The user is logged in, or was.
    Stands,
    /// The session is being ended.
    Condemned,
}

/// A place, and how far it is.
pub type Listed = (Place, Progress);

/// The roll of one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roll {
    /// The store's clock, ms since 1970.
    pub now_ms: u64,
    /// The places, the oldest first.
    pub places: Vec<Listed>,
}

/// What a look at a session shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It lives.
    Seen(Glimpse),
    /// It is over, or was never there.
    Gone,
    /// What stands there cannot be read: another version of the program may know what it is.
    Unreadable,
}

/// A session as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse {
    /// Which session.
    pub locator: Locator,
    /// Who is logged in.
    pub user: Option<String>,
    /// Who owns it.
    pub owner: Option<Token>,
    /// For how long the owner's lease lasts without a renewal, ms; 0 when it has none.
    pub lease_ms: u64,
    /// Epoch of the latest claim.
    pub epoch: u64,
    /// Grows by one with every write.
    pub version: u64,
    /// When it began, ms since 1970 on the store's clock.
    pub created_ms: u64,
    /// Latest access that was noted, ms since 1970 on the store's clock.
    pub last_access_ms: u64,
    /// When it ends whatever happens, ms since 1970 on the store's clock.
    pub absolute_ms: u64,
    /// How long it lives without an access, ms.
    pub idle_ms: u64,
    /// About how many bytes the names and texts of its attributes have.
    pub bytes: u64,
}

/// Where a page ends. Its text is opaque to those who are given it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Part of the store; 0 where there are none.
    pub part: u16,
    /// The public id of the last session that was read.
    pub id: String,
}

/// Answer to [`SessionRegister::page`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The sessions.
    pub sessions: Vec<Glimpse>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<Cursor>,
    /// How many more stand among these that cannot be read.
    pub unreadable: u64,
}

/// Answer to [`SessionRegister::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// All sessions.
    pub sessions: u64,
    /// Those in which somebody is logged in.
    pub named: u64,
    /// How many users are logged in; `None` where that would take a look at every session.
    pub users: Option<u64>,
}

/// Answer to [`SessionRegister::still_held`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillHeld {
    /// The node.
    pub node: NodeId,
    /// For how long its lease lasts without a renewal, ms.
    pub for_ms: u64,
}

impl Progress {
    /// Gives the word that stores keep.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Stands => "stands",
            Self::Condemned => "condemned",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let all = [Self::Begun, Self::Stands, Self::Condemned];
        all.into_iter().find(|progress| progress.as_str() == text)
    }
}

impl Cursor {
    /// Writes it as a text for a query.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}.{}", self.part, self.id)
    }

    /// Reads such a text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (part, id) = text.split_once('.')?;
        let fits = id.len() <= 64 && id.bytes().all(is_digit);
        fits.then_some(Self { part: part.parse().ok()?, id: id.to_owned() })
    }
}

impl Sight {
    /// Gives the session, if it lives.
    #[must_use]
    pub fn seen(self) -> Option<Glimpse> {
        match self {
            Self::Seen(glimpse) => Some(glimpse),
            Self::Gone | Self::Unreadable => None,
        }
    }

    /// Gives the session, if it lives and is the user's.
    #[must_use]
    pub fn of_user(&self, user: &str) -> Option<&Glimpse> {
        match self {
            Self::Seen(glimpse) => Some(glimpse).filter(|it| it.user.as_deref() == Some(user)),
            Self::Gone | Self::Unreadable => None,
        }
    }
}

impl Sight {
    /// Says whether the session lives and is not the user's.
    #[must_use]
    pub fn is_of_another(&self, user: &str) -> bool {
        matches!(self, Self::Seen(_)) && self.of_user(user).is_none()
    }
}

impl Glimpse {
    /// Says when it is over if nothing more is asked of it, ms since 1970 on the store's clock.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.absolute_ms.min(self.last_access_ms.saturating_add(self.idle_ms))
    }
}

/// Says whether a byte can stand in a public id.
pub(crate) fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Says whether a place may be struck off: what it stands for is over, or came to nothing. `sight` is of the session, taken
/// after the roll was read at `now_ms`.
#[must_use]
pub fn is_vain((place, progress): Listed, user: &str, sight: &Sight, now_ms: u64) -> bool {
    let is_young = now_ms < place.at_ms.saturating_add(LEFT_ALONE_MS);
    match (sight, progress) {
        // Whoever carries it out strikes it off.
        (_, Progress::Condemned) | (Sight::Unreadable, _) => false,
        (Sight::Seen(_), _) if sight.of_user(user).is_some() => false,
        // Its login came to an end, so it was there: it is over for ever.
        (Sight::Gone, Progress::Stands) => true,
        // A login may still make it this user's.
        (Sight::Seen(_), Progress::Begun | Progress::Stands) | (Sight::Gone, Progress::Begun) => {
            !is_young
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { part: 63, id: "00ff".to_owned() };
        assert_eq!(Cursor::from_text(&cursor.to_text()), Some(cursor));
        for wrong in ["", "1", "x.00", "1.0G", "1.00FF", "70000.00", "1.-"] {
            assert_eq!(Cursor::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_login_has_begun_is_left_alone_for_a_while() {
        let place = Place { at_ms: 1_000, locator: Locator::from_bytes([1; 16]) };
        let (soon, late) = (1_000 + LEFT_ALONE_MS - 1, 1_000 + LEFT_ALONE_MS);
        let vain = |progress, now_ms| is_vain((place, progress), "ann", &Sight::Gone, now_ms);
        assert!(!vain(Progress::Begun, soon) && vain(Progress::Begun, late));
        assert!(vain(Progress::Stands, soon), "it was there, and is over");
        assert!(!vain(Progress::Condemned, late));
        for progress in [Progress::Begun, Progress::Stands, Progress::Condemned] {
            assert_eq!(Progress::from_text(progress.as_str()), Some(progress));
        }
    }
}
