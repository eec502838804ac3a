//! What a node knows of a value whose life is almost over, or is: whether it is to be loaded anew, and whether it may still be
//! given.
//!
//! A value whose life is over stays in memory until something else needs its place. It is given on the same condition as one that
//! lives: that all that was forgotten up to less than [`BOUND`](super::BOUND) ago is known to be out of memory. So it is stale
//! because nobody looked, never because it was forgotten; nothing here puts a value back that is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::Entry;

use super::super::memory::{AnyValue, Kept, Tags};
use super::{Core, Pilot};
use crate::clock::BootInstant;

/// For how long a value that was loaded in vain, or takes long, is not loaded again by those who can be given a stale one.
pub(in super::super) const PAUSE: Duration = Duration::from_secs(1);

/// What is known of a value.
pub(in super::super) enum Known {
    /// Nothing; or it is over, and to be loaded before it is given.
    Nothing,
    /// It lives.
    Lives(AnyValue),
    /// It lives, and the asker is to have it loaded anew; one that all nodes share and that lives longer than this is new.
    Due(AnyValue, Duration),
    /// Its life is over, it was loaded so long ago, and there is no use in trying to load it just now.
    Over(AnyValue, Duration),
}

/// How a value is kept.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Terms {
    /// Its length as JSON.
    bytes: usize,
    /// How long it lives from now on.
    lives: Duration,
    /// How long its whole life is, at most.
    whole: Duration,
}

impl Core {
    /// Says how a value is kept that has this JSON.
    pub(in super::super) fn terms(&self, text: &str, lives: Duration) -> Terms {
        Terms { bytes: text.len(), lives, whole: self.region.life_of(text) }
    }

    pub(super) fn kept(&self, value: AnyValue, tags: &Tags, terms: Terms) -> Kept {
        Kept {
            value,
            tags: (!tags.is_empty()).then(|| Arc::clone(tags)),
            bytes: terms.bytes as u64,
            until: self.clock.now() + terms.lives,
            whole: terms.whole,
            again: self.region.loads_in_background().then(|| Arc::new(AtomicU64::new(0))),
        }
    }

    /// Looks for a value. Of those who ask for one that is due only one hears of that, for a while.
    pub(in super::super) fn known(&self, key: &str) -> Known {
        let Some((kept, now)) = self.trusted(key) else { return Known::Nothing };
        if kept.until > now {
            let left = kept.until.saturating_duration_since(now);
            let rest = self.region.rest_when_due(kept.whole);
            return match rest.filter(|rest| left < *rest && claims(&kept, now)) {
                Some(rest) => Known::Due(kept.value, rest),
                None => Known::Lives(kept.value),
            };
        }
        match self.age(&kept, now) {
            Some(age) if is_put_off(&kept, now) => Known::Over(kept.value, age),
            Some(_) | None => Known::Nothing,
        }
    }

    /// Looks for a value that cannot be loaded, or not soon enough; a stale one with its age.
    pub(in super::super) fn still_known(&self, key: &str) -> Option<(AnyValue, Option<Duration>)> {
        let (kept, now) = self.trusted(key)?;
        if kept.until > now {
            return Some((kept.value, None));
        }
        let age = self.age(&kept, now)?;
        Some((kept.value, Some(age)))
    }

    /// Has nobody try to load a value for a while who can be given a stale one.
    pub(in super::super) fn put_off(&self, key: &str) {
        if let Some(again) = self.memory.get(key).and_then(|kept| kept.again) {
            again.store((self.clock.now() + PAUSE).as_nanos(), Ordering::Relaxed);
        }
    }

    /// Begins to load a value anew, unless somebody does already.
    pub(in super::super) fn board_again(core: &Arc<Self>, key: &str, tags: &Tags) -> Option<Pilot> {
        let key: Arc<str> = Arc::from(key);
        match core.flights.entry(Arc::clone(&key)) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                let (flight, pilot) = Self::departs(core, key, tags);
                drop(place.insert(flight));
                Some(pilot)
            }
        }
    }

    /// What is in memory, if memory may be trusted.
    fn trusted(&self, key: &str) -> Option<(Kept, BootInstant)> {
        // In this order: what is found now was not forgotten before that moment.
        let fresh = self.fresh.load(Ordering::Acquire);
        let kept = self.memory.get(key)?;
        let now = self.clock.now();
        self.trusts(fresh, now).then_some((kept, now))
    }

    /// How long ago a value was loaded, at most, whose life is over; nothing when it must not be given any more.
    fn age(&self, kept: &Kept, now: BootInstant) -> Option<Duration> {
        let over = now.saturating_duration_since(kept.until);
        // A whole life is a little longer than many live.
        (over < self.region.stale()).then(|| over.saturating_add(kept.whole))
    }
}

/// Whether the asker is the first for a while.
fn claims(kept: &Kept, now: BootInstant) -> bool {
    let Some(again) = &kept.again else { return false };
    let (seen, next) = (again.load(Ordering::Relaxed), (now + PAUSE).as_nanos());
    let swapped = || again.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
    seen <= now.as_nanos() && swapped().is_ok()
}

fn is_put_off(kept: &Kept, now: BootInstant) -> bool {
    kept.again.as_ref().is_some_and(|again| again.load(Ordering::Relaxed) > now.as_nanos())
}
