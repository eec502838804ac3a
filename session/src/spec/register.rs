//! The rolls of users, and questions about sessions together; see [`SessionRegister`](crate::store::SessionRegister).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Locator, Record, Token};
use crate::spec::{Spec, Stored, is_over};
use crate::state::size;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage, OnlineUser};
use crate::store::register::{
    Condemn, Confirmed, Count, Cursor, Enrolled, Enrolment, Glimpse, Listed, Page, Place, Progress,
    Roll, Sight, StillHeld,
};

impl Spec {
    /// See [`SessionRegister::enroll`](crate::store::SessionRegister::enroll).
    pub fn enroll(&mut self, enrolment: Enrolment<'_>, now_ms: u64) -> Enrolled {
        let roll = self.rolls.entry(enrolment.user.to_owned()).or_default();
        let locator = enrolment.locator;
        let before = roll.get(&locator).map(|(_, progress)| *progress);
        let others = roll.iter().filter(|(other, (_, progress))| {
            **other != locator && *progress != Progress::Condemned
        });
        let full = enrolment.most.is_some_and(|most| others.count() >= most as usize);
        match before {
            Some(Progress::Condemned) => Enrolled::Condemned,
            Some(_) | None if full => Enrolled::Full,
            Some(Progress::Begun | Progress::Stands) | None => {
                roll.insert(locator, (now_ms, before.unwrap_or(Progress::Begun)));
                let place = Place { at_ms: now_ms, locator };
                Enrolled::In { place, again: before.is_some() }
            }
        }
    }

    /// See [`SessionRegister::confirm`](crate::store::SessionRegister::confirm).
    pub fn confirm(&mut self, user: &str, locator: Locator) -> Confirmed {
        let Some(roll) = self.rolls.get_mut(user) else { return Confirmed::Lost };
        match roll.get_mut(&locator) {
            None | Some((_, Progress::Condemned)) => return Confirmed::Lost,
            Some((_, progress)) => *progress = Progress::Stands,
        }
        let standing = roll.values().filter(|(_, progress)| *progress == Progress::Stands).count();
        Confirmed::Stands { standing: standing as u64 }
    }

    /// See [`SessionRegister::condemn`](crate::store::SessionRegister::condemn).
    pub fn condemn(&mut self, user: &str, which: Condemn) -> Vec<Place> {
        let mut places = self.roll(user, 0).places;
        let standing = places.iter().filter(|(_, progress)| *progress == Progress::Stands).count();
        let mut excess = match which {
            Condemn::All | Condemn::Others(_) => usize::MAX,
            Condemn::Beyond(most) => standing.saturating_sub(most as usize),
        };
        for (place, progress) in &mut places {
            let chosen = match progress {
                Progress::Stands => excess > 0,
                Progress::Begun => !matches!(which, Condemn::Beyond(_)),
                Progress::Condemned => false,
            };
            if chosen && which != Condemn::Others(place.locator) {
                excess = excess.saturating_sub(1);
                *progress = Progress::Condemned;
            }
        }
        let roll = self.rolls.entry(user.to_owned()).or_default();
        roll.extend(
            places.iter().map(|(place, progress)| (place.locator, (place.at_ms, *progress))),
        );
        let condemned = places.into_iter().filter(|(_, progress)| *progress == Progress::Condemned);
        condemned.map(|(place, _)| place).collect()
    }

    /// See [`SessionRegister::strike`](crate::store::SessionRegister::strike).
    pub fn strike(&mut self, user: &str, places: &[Listed]) {
        let Some(roll) = self.rolls.get_mut(user) else { return };
        for (place, progress) in places {
            if roll.get(&place.locator) == Some(&(place.at_ms, *progress)) {
                roll.remove(&place.locator);
            }
        }
        self.rolls.retain(|_, roll| !roll.is_empty());
    }

    /// Takes a session that is over off the roll of its user, whatever its place is.
    pub(super) fn take_off_roll(&mut self, locator: Locator, record: &Record) {
        let Some(user) = record.user.as_deref() else { return };
        if let Some(roll) = self.rolls.get_mut(user) {
            roll.remove(&locator);
        }
    }

    /// Gives a session that was put back a place, if it has none.
    pub(super) fn put_on_roll(&mut self, locator: Locator, record: &Record) {
        let Some(user) = record.user.as_deref() else { return };
        let roll = self.rolls.entry(user.to_owned()).or_default();
        roll.entry(locator).or_insert((record.created_ms, Progress::Stands));
    }

    /// See [`SessionRegister::roll`](crate::store::SessionRegister::roll).
    #[must_use]
    pub fn roll(&self, user: &str, now_ms: u64) -> Roll {
        let roll = self.rolls.get(user).into_iter().flatten();
        let mut places: Vec<Listed> = roll
            .map(|(locator, (at_ms, progress))| {
                (Place { at_ms: *at_ms, locator: *locator }, *progress)
            })
            .collect();
        places.sort_by_key(|(place, _)| *place);
        Roll { now_ms, places }
    }

    /// See [`SessionRegister::look`](crate::store::SessionRegister::look).
    #[must_use]
    pub fn look(&self, locator: Locator, now_ms: u64) -> Sight {
        match self.sessions.get(&locator) {
            Some(Stored::Live(record)) if !is_over(record, self.touch_slack_ms, now_ms) => {
                Sight::Seen(self.glimpse(locator, record, now_ms))
            }
            Some(Stored::Live(_) | Stored::Ended(_)) | None => Sight::Gone,
        }
    }

    fn glimpse(&self, locator: Locator, record: &Record, now_ms: u64) -> Glimpse {
        let node = record.owner.as_ref().and_then(Token::node);
        let lease_ms = node.and_then(|node| self.leases.live_for(&node, now_ms));
        Glimpse {
            locator,
            user: record.user.as_deref().map(str::to_owned),
            owner: record.owner.clone(),
            lease_ms: lease_ms.unwrap_or(0),
            epoch: record.epoch,
            version: record.version,
            created_ms: record.created_ms,
            last_access_ms: record.last_access_ms,
            absolute_ms: record.absolute_ms,
            idle_ms: record.idle_ms,
            bytes: size(record) as u64,
        }
    }

    /// See [`SessionRegister::page`](crate::store::SessionRegister::page).
    #[must_use]
    pub fn page(&self, after: Option<&Cursor>, limit: u32, now_ms: u64) -> Page {
        let after = after.map_or("", |cursor| cursor.id.as_str());
        let mut all: Vec<Glimpse> =
            self.sessions.keys().filter_map(|locator| self.look(*locator, now_ms).seen()).collect();
        all.retain(|glimpse| glimpse.locator.public_id().as_str() > after);
        all.sort_by_cached_key(|glimpse| glimpse.locator.public_id());
        let more = all.len() > limit as usize;
        all.truncate(limit as usize);
        let last = all.last().filter(|_| more).map(|glimpse| glimpse.locator.public_id());
        Page { sessions: all, next: last.map(|id| Cursor { part: 0, id }), unreadable: 0 }
    }

    /// See [`SessionRegister::find`](crate::store::SessionRegister::find).
    #[must_use]
    pub fn find(&self, id: &str) -> Vec<Locator> {
        let live = self.sessions.iter().filter(|(_, stored)| matches!(stored, Stored::Live(_)));
        let found = live.map(|(locator, _)| *locator);
        found.filter(|locator| locator.public_id().starts_with(id)).take(2).collect()
    }

    /// See [`SessionRegister::count`](crate::store::SessionRegister::count).
    #[must_use]
    pub fn count(&self) -> Count {
        let live = self.sessions.values().filter_map(|stored| match stored {
            Stored::Live(record) => Some(record),
            Stored::Ended(_) => None,
        });
        let live: Vec<_> = live.collect();
        let users: BTreeSet<_> = live.iter().filter_map(|record| record.user.as_deref()).collect();
        let named = live.iter().filter(|record| record.user.is_some()).count() as u64;
        Count { sessions: live.len() as u64, named, users: Some(users.len() as u64) }
    }

    /// See [`SessionRegister::online`](crate::store::SessionRegister::online).
    #[must_use]
    pub fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
        now_ms: u64,
    ) -> OnlinePage {
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        for record in self.used_within(within_ms, now_ms) {
            let Some(user) = record.user.as_deref() else { continue };
            let seen_ms = latest.entry(user).or_default();
            *seen_ms = record.last_access_ms.max(*seen_ms);
        }
        let users = latest.into_iter();
        let mut users: Vec<OnlineUser> =
            users.map(|(user, seen_ms)| OnlineUser { user: user.to_owned(), seen_ms }).collect();
        let place = |it: &OnlineUser| (Reverse(it.seen_ms), it.user.clone());
        users.sort_by_key(place);
        if let Some(last) = after.and_then(|cursor| cursor.last.as_ref()) {
            users.retain(|it| place(it) > place(last));
        }
        let more = users.len() > limit as usize;
        users.truncate(limit as usize);
        let last = users.last().filter(|_| more).cloned();
        OnlinePage { next: last.map(|last| OnlineCursor { part: 0, last: Some(last) }), users }
    }

    /// See [`SessionRegister::count_online`](crate::store::SessionRegister::count_online).
    #[must_use]
    pub fn count_online(&self, within_ms: u64, now_ms: u64) -> OnlineCount {
        let used: Vec<&Record> = self.used_within(within_ms, now_ms).collect();
        let users: BTreeSet<&str> = used.iter().filter_map(|it| it.user.as_deref()).collect();
        let guests = used.iter().filter(|it| it.user.is_none()).count();
        OnlineCount { users: users.len() as u64, guests: guests as u64 }
    }

    fn used_within(&self, within_ms: u64, now_ms: u64) -> impl Iterator<Item = &Record> {
        let slack_ms = self.touch_slack_ms;
        let since_ms = now_ms.saturating_sub(within_ms.saturating_add(slack_ms));
        self.sessions.values().filter_map(move |stored| match stored {
            Stored::Live(record) => Some(&**record).filter(|record| {
                !is_over(record, slack_ms, now_ms) && record.last_access_ms >= since_ms
            }),
            Stored::Ended(_) => None,
        })
    }

    /// See [`SessionRegister::still_held`](crate::store::SessionRegister::still_held).
    #[must_use]
    pub fn still_held(&self, locator: Locator, now_ms: u64) -> Option<StillHeld> {
        let owner = match self.sessions.get(&locator)? {
            Stored::Live(record) => record.owner.as_ref(),
            Stored::Ended(tombstone) => tombstone.owner.as_ref(),
        };
        let node = owner.and_then(Token::node)?;
        let for_ms = self.leases.live_for(&node, now_ms)?;
        Some(StillHeld { node, for_ms })
    }
}
