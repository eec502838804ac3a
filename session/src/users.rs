//! Who is logged in where: the roll of each user, the number of sessions they may have, and ending them.
//!
//! # Which record holds the truth
//!
//! The record of a session says whose it is, behind the session's own fence; nothing else does. The roll of a user
//! ([`SessionRegister`](crate::store::SessionRegister)) says where to look. It lies elsewhere than the sessions (on a Redis
//! Cluster in another slot, so that no script can touch both), so the two are never changed together, and everything here
//! follows from one promise:
//!
//! **A session that somebody has a cookie for is on the roll of its user.** The roll may name too many, never too few.
//!
//! # A login
//!
//! 1. *Enroll*: the session gets a place on the roll, as `begun`. With the policy `reject` this is where the number of
//!    sessions is limited: one script counts and adds.
//! 2. The record is changed by its owner, as for any other operation, or a new session is put in. Now there is a new
//!    secret, but nobody has it.
//! 3. *Confirm*: the place becomes one that `stands`, and the script says how many do. If it is gone or condemned, the
//!    session is ended and the login fails. Only after this is the cookie given out.
//!    (With the policy `notify` it is given out whatever the count says, and the application is told; see
//!    [`SessionLimitExceeded`].)
//! 4. With the policy `oldest`, if more stand than may: those that are over are struck off, then one script *condemns* the
//!    oldest beyond the number; these are ended, and struck off after that.
//!
//! So of 11 parallel logins of which 10 may stand, with `reject` the eleventh to enroll is refused; with `oldest` whoever
//! confirms when there are too many condemns the excess, by counts that one script takes. A condemned session whose login is
//! still under way fails at step 3; one that was confirmed is ended by whoever condemned it.
//!
//! # Ending the others
//!
//! "End all others" ([`SessionHandle::end_others`]) is the end of all with one place left out, by the same script: no login
//! that began before it can slip through, and the session that asks stays whatever happens. What it condemned is ended as
//! above: with a tombstone, which no fence stops; so an owner that stands still meanwhile (for 30 s, say) has its writes
//! refused when it wakes up, and the caller is answered when the owner knows, or its lease is over.
//!
//! # What a crash leaves behind
//!
//! | the process dies | what is left | who tidies up |
//! |---|---|---|
//! | after 1 | a place without a session | whoever looks, when it is older than [`LEFT_ALONE_MS`]; until then it counts with `reject` |
//! | after 2 | a session that is the user's, for which nobody has a cookie | it runs out; a place `begun` is not counted among those that stand |
//! | after 3 | one session too many | the next login of the user |
//! | while it ends the condemned | condemned places, so the sessions are still found | the next login that makes room or comes from one of them, whoever lists or ends the user's sessions |
//! | after a logout or an end, before the roll is told | a place without a session | whoever looks |
//!
//! A process that stands still instead and goes on later does no harm either. Whoever tidies up leaves what is younger than
//! [`LEFT_ALONE_MS`] alone; if a login takes longer and its place was struck off, step 3 finds it gone.
//!
//! # Where the promise ends
//!
//! Nodes of a version before this begin sessions and log users in without the roll. In Redis such a session comes onto it
//! when a node of this version first claims it, or at its next login; the database finds it by the record. A failover of one server of a Redis Cluster may lose the latest places
//! and keep the sessions on another server. With one Redis the roll comes before the record in the same stream of changes,
//! so what survives of the record survives of the roll; and an owner that puts its copy back puts it on the roll first.
//!
//! [`LEFT_ALONE_MS`]: crate::store::register::LEFT_ALONE_MS

mod limit;
mod online;

use std::cell::Cell;
use std::time::Duration;

use understudy_runtime::config::MaxPolicy;

use crate::error::SessionError;
use crate::handle::{EndError, Ends, SessionHandle, to_its_end};
use crate::record::Locator;
use crate::store::register::{
    Condemn, Confirmed, Enrolled, Enrolment, Glimpse, Listed, Place, Progress, Roll, Sight, is_vain,
};
use crate::store::{End, SharedStore, StoreError};

pub use limit::{OldSession, SessionLimitExceeded};

/// Most bytes of a user's name.
pub const LONGEST_NAME: usize = 256;
/// How many sessions are ended together when all are.
const END_ALL_PAGE: u32 = 500;
/// How long a login waits for the owners of those that are ended for it; that they are over at the store it always awaits.
const ROOM_LIMIT: Duration = Duration::from_secs(1);

/// Says whether a text can be the name of a user: 1 to 256 bytes without control characters.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Counts sessions while all are ended.
#[derive(Debug, Default)]
pub struct Tally {
    ended: Cell<u64>,
    failed: Cell<u64>,
}

impl Tally {
    /// Tells how many are over at the store.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended.get()
    }

    /// Tells how many could not be ended, or not even be read.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.get()
    }

    fn count(&self, ended: u64, failed: u64) {
        self.ended.set(self.ended() + ended);
        self.failed.set(self.failed() + failed);
    }
}

/// A login that has a place on the roll, and is not carried out yet.
#[derive(Debug)]
pub(crate) struct Login<'a> {
    handle: &'a SessionHandle,
    user: &'a str,
    place: Place,
    /// The session had a place before: it keeps it when the login fails.
    again: bool,
}

impl SessionHandle {
    /// Gives a session a place on the roll of a user who is about to log in.
    pub(crate) async fn enroll<'a>(
        &'a self,
        user: &'a str,
        locator: Locator,
        lifetime_ms: u64,
    ) -> Result<Login<'a>, SessionError> {
        let users = &self.0.options.users;
        let most = users.max_sessions.filter(|_| users.max_policy == MaxPolicy::Reject);
        let enrolment = Enrolment { user, locator, most, lifetime_ms };
        let (mut tidied, mut unanswered) = (false, false);
        let began = self.0.clock.now();
        loop {
            let sent_at = self.0.clock.now();
            match self.store(locator).enroll(enrolment).await {
                Ok(Enrolled::In { place, again }) => {
                    return Ok(Login { handle: self, user, place, again: again || unanswered });
                }
                Ok(Enrolled::Condemned) => {
                    self.carry_out_one(user, locator).await?;
                    return Err(SessionError::Ended);
                }
                Ok(Enrolled::Full) if tidied => return Err(SessionError::TooManySessions),
                Ok(Enrolled::Full) => {
                    self.tidy_roll(user, End::Ordered).await?;
                    tidied = true;
                }
                Err(StoreError::Unavailable(_)) => {
                    unanswered = true;
                    self.outlast(sent_at, began).await?;
                }
                Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
                    return Err(error.into());
                }
            }
        }
    }

    /// Reads a roll and looks at its sessions; strikes off what is over.
    async fn seen_roll(&self, user: &str) -> Result<(Roll, Vec<Sight>), StoreError> {
        let store = self.register();
        let roll = store.roll(user).await?;
        let locators: Vec<Locator> = roll.places.iter().map(|(place, _)| place.locator).collect();
        let sights = store.look(&locators).await?;
        let seen = roll.places.iter().zip(&sights);
        let vain = seen.filter(|(listed, sight)| is_vain(**listed, user, sight, roll.now_ms));
        let vain: Vec<Listed> = vain.map(|(listed, _)| *listed).collect();
        if !vain.is_empty() {
            store.strike(user, &vain).await?;
        }
        Ok((roll, sights))
    }

    /// Strikes off what is over, and carries out what somebody condemned and did not finish: as what is told by `end`, since
    /// the roll does not say why.
    async fn tidy_roll(&self, user: &str, end: End) -> Result<(), StoreError> {
        let (roll, _) = self.seen_roll(user).await?;
        self.carry_out_soon(user, &condemned_on(&roll), end).await
    }

    /// Carries out the end of a session that is about to log in. Whoever condemned it may have died since, and as long as it
    /// lives with a condemned place, the browser that has it can never log in.
    async fn carry_out_one(&self, user: &str, locator: Locator) -> Result<(), StoreError> {
        let roll = self.store(locator).roll(user).await?;
        let mut condemned = condemned_on(&roll);
        condemned.retain(|place| place.locator == locator);
        self.carry_out_soon(user, &condemned, End::Ordered).await
    }

    /// Ends condemned sessions at the store; gives how many of them lived. What a roll names may have become another user's
    /// meanwhile: that one keeps it.
    async fn end_condemned(
        &self,
        user: &str,
        condemned: &[Place],
        end: End,
    ) -> Result<(u64, Ends), StoreError> {
        let locators: Vec<Locator> = condemned.iter().map(|place| place.locator).collect();
        let sights = self.register().look(&locators).await?;
        let lived = sights.iter().filter(|sight| sight.of_user(user).is_some()).count() as u64;
        let seen = locators.iter().zip(&sights);
        let theirs = seen.filter(|(_, sight)| !sight.is_of_another(user));
        let theirs: Vec<Locator> = theirs.map(|(locator, _)| *locator).collect();
        Ok((lived, self.end_at_store(&theirs, end).await))
    }

    /// Strikes off those that are over on every node. The others stay condemned, for whoever does it again.
    async fn strike_ended(
        &self,
        user: &str,
        condemned: &[Place],
        ends: &Ends,
    ) -> Result<(), StoreError> {
        let left = ends.left();
        let over = condemned.iter().filter(|place| !left.contains(&place.locator));
        let over: Vec<Listed> = over.map(|place| (*place, Progress::Condemned)).collect();
        self.register().strike(user, &over).await
    }

    /// Ends condemned sessions, tells their owners and strikes them off, in this order; gives how many of them lived. One
    /// that cannot be ended does not hold the others up.
    async fn carry_out(&self, user: &str, condemned: &[Place], end: End) -> Result<u64, EndError> {
        if condemned.is_empty() {
            return Ok(0);
        }
        let ended = self.end_condemned(user, condemned, end).await;
        let (lived, mut ends) = ended.map_err(EndError::Store)?;
        self.tell_owners(&mut ends).await;
        self.strike_ended(user, condemned, &ends).await.map_err(EndError::Store)?;
        ends.result().map(|()| lived)
    }

    /// The same, for a login, which waits until they are over at the store, and not for owners that are asleep.
    async fn carry_out_soon(
        &self,
        user: &str,
        condemned: &[Place],
        end: End,
    ) -> Result<(), StoreError> {
        if condemned.is_empty() {
            return Ok(());
        }
        let (_, mut ends) = self.end_condemned(user, condemned, end).await?;
        let told = tokio::time::timeout(ROOM_LIMIT, self.tell_owners(&mut ends)).await;
        if told.is_err() {
            tracing::debug!("owners of sessions that a login ended did not say yet that they know");
        }
        self.strike_ended(user, condemned, &ends).await?;
        match ends.result() {
            Err(EndError::Store(error @ (StoreError::Unavailable(_) | StoreError::Refused(_)))) => {
                Err(error)
            }
            // What is left condemned is found by the next login, or by whoever ends the user's sessions. Nobody can use
            // what cannot be read, so it is no reason to let nobody in.
            Err(EndError::Unconfirmed(_) | EndError::Store(StoreError::Unreadable(_))) | Ok(()) => {
                Ok(())
            }
        }
    }

    /// Ends the oldest sessions of a user, so that as many are left as may be; says whether `own` is one that is left.
    async fn make_room(&self, user: &str, most: u32, own: Locator) -> Result<bool, StoreError> {
        // Most of what is left there was condemned by a login at the same moment.
        self.tidy_roll(user, End::Replaced).await?;
        let store = self.store(own);
        let condemned = store.condemn(user, Condemn::Beyond(most)).await?;
        self.carry_out_soon(user, &condemned, End::Replaced).await?;
        Ok(condemned.iter().all(|place| place.locator != own))
    }

    /// Ends all sessions of a user on every node, also those whose login is under way; gives how many there were. Goes on to
    /// its end when the future is dropped.
    ///
    /// # Errors
    /// [`EndError`]; it can be done again.
    pub async fn end_user(&self, user: &str) -> Result<u64, EndError> {
        self.end_which(user, Condemn::All, End::Ordered).await
    }

    /// Ends all sessions of a user but `kept` on every node, also those whose login is under way; gives how many there were.
    /// As [`Self::end_user`] in all else. `kept` goes too if somebody else has condemned it before.
    ///
    /// # Errors
    /// [`EndError`]; it can be done again.
    pub async fn end_others(&self, user: &str, kept: Locator) -> Result<u64, EndError> {
        self.end_which(user, Condemn::Others(kept), End::Others).await
    }

    async fn end_which(&self, user: &str, which: Condemn, end: End) -> Result<u64, EndError> {
        let (handle, user) = (self.clone(), user.to_owned());
        to_its_end(async move {
            let condemned = handle.register().condemn(&user, which).await;
            let condemned = condemned.map_err(EndError::Store)?;
            handle.carry_out(&user, &condemned, end).await
        })
        .await
    }

    /// Shows the sessions of a user; strikes off what is over, and carries out what somebody condemned and did not finish.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<Glimpse>, StoreError> {
        let (roll, mut sights) = self.seen_roll(user).await?;
        let condemned = condemned_on(&roll);
        if !condemned.is_empty() {
            if let Err(error) = self.carry_out_soon(user, &condemned, End::Ordered).await {
                tracing::debug!(%error, "sessions that are to be ended are still there");
            }
            let locators: Vec<Locator> =
                roll.places.iter().map(|(place, _)| place.locator).collect();
            sights = self.register().look(&locators).await?;
        }
        Ok(sights.into_iter().filter_map(|sight| sight.of_user(user).cloned()).collect())
    }

    /// Ends all sessions that there are on every node; `tally` tells how many so far.
    ///
    /// # Errors
    /// [`EndError`] of the first that could not be ended; the others were. What cannot be read is counted only.
    pub async fn end_all(&self, tally: &Tally) -> Result<(), EndError> {
        let (mut after, mut failed) = (None, Ok(()));
        loop {
            let page = self.register().page(after.as_ref(), END_ALL_PAGE).await;
            let page = page.map_err(EndError::Store)?;
            let locators: Vec<Locator> =
                page.sessions.iter().map(|session| session.locator).collect();
            let mut ends = self.end_at_store(&locators, End::Ordered).await;
            tally.count(locators.len() as u64 - ends.failed(), ends.failed() + page.unreadable);
            self.tell_owners(&mut ends).await;
            failed = failed.and(ends.result());
            match page.next {
                Some(next) => after = Some(next),
                None => return failed,
            }
        }
    }

    /// Finds the sessions whose public id ([`Locator::public_id`]) begins so, in order to end one for example; a few at most.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away or refuses.
    pub async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        self.register().find(id).await
    }

    /// The store, for what concerns many sessions.
    pub(crate) fn register(&self) -> &SharedStore {
        self.store(Locator::from_bytes([0; 16]))
    }

    /// Takes a session off the roll of a user whose it is no more.
    pub(crate) async fn leave_roll(&self, user: &str, locator: Locator) -> Result<(), StoreError> {
        let store = self.store(locator);
        let roll = store.roll(user).await?;
        let places = roll.places.into_iter();
        let places: Vec<Listed> = places.filter(|(place, _)| place.locator == locator).collect();
        store.strike(user, &places).await
    }
}

fn condemned_on(roll: &Roll) -> Vec<Place> {
    let condemned = roll.places.iter().filter(|(_, it)| *it == Progress::Condemned);
    condemned.map(|(place, _)| *place).collect()
}

impl Login<'_> {
    /// Gives the place up: the login was surely not carried out. Whoever looks does it when this fails.
    pub(crate) async fn withdraw(self) {
        if self.again {
            return;
        }
        let store = self.handle.store(self.place.locator);
        if let Err(error) = store.strike(self.user, &[(self.place, Progress::Begun)]).await {
            tracing::debug!(%error, "the roll of a user names a login that failed");
        }
    }

    /// Notes that the login was carried out, and sees to it that the user has no more sessions than allowed.
    ///
    /// # Errors
    /// [`SessionError::Ended`] when the session had to go; it is over then. Else when the store does not answer; the
    /// client must not be given the cookie then.
    pub(crate) async fn confirm(self) -> Result<(), SessionError> {
        let (handle, locator) = (self.handle, self.place.locator);
        let began = handle.0.clock.now();
        let confirmed = loop {
            let sent_at = handle.0.clock.now();
            match handle.store(locator).confirm(self.user, locator).await {
                Ok(confirmed) => break confirmed,
                Err(StoreError::Unavailable(_)) => handle.outlast(sent_at, began).await?,
                Err(error) => return Err(error.into()),
            }
        };
        let Confirmed::Stands { standing } = confirmed else {
            return self.lose().await;
        };
        handle.note_login(locator, self.user);
        let users = &handle.0.options.users;
        let most = users.max_sessions.filter(|most| standing > u64::from(*most));
        let Some(most) = most else { return Ok(()) };
        match users.max_policy {
            MaxPolicy::Oldest if !handle.make_room(self.user, most, locator).await? => {
                Err(SessionError::Ended)
            }
            MaxPolicy::Notify => {
                handle.tell_limit(self.user, most, locator);
                Ok(())
            }
            MaxPolicy::Oldest | MaxPolicy::Reject => Ok(()),
        }
    }

    /// Somebody condemned the session before its login was through, or the login took too long.
    async fn lose(self) -> Result<(), SessionError> {
        match self.handle.end(&[self.place.locator]).await {
            Ok(()) => Err(SessionError::Ended),
            // Nobody has its cookie.
            Err(EndError::Unconfirmed(_)) => Err(SessionError::Ended),
            Err(EndError::Store(error)) => Err(error.into()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
