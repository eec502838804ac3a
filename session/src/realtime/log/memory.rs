//! Streams in the memory of a node that is alone. They mean what those in Redis mean, and end with the process: the next one gives
//! its streams another birth, so that whoever comes back reads everything anew.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
use understudy_runtime::clock::{BootInstant, SharedClock};

use super::{AT_ONCE, Read};
use crate::realtime::event::SessionEvent;
use crate::realtime::position::Mark;
use crate::realtime::{KEPT_FOR, MOST_EVENTS, Topic};

/// How often streams that nobody wants any more are thrown away.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Keeps events in memory.
pub(in crate::realtime) struct MemoryLog {
    streams: DashMap<Topic, Stream>,
    clock: SharedClock,
    /// When it was last tidied up, as [`BootInstant::as_nanos`].
    tidied: AtomicU64,
}

struct Stream {
    newest: Mark,
    /// The latest events, with their numbers.
    events: VecDeque<(u64, SessionEvent)>,
    until: BootInstant,
}

impl MemoryLog {
    pub(super) fn new(clock: SharedClock) -> Self {
        let tidied = AtomicU64::new(clock.now().as_nanos());
        Self { streams: DashMap::new(), clock, tidied }
    }

    pub(super) fn append(&self, topic: &Topic, event: &SessionEvent) {
        let mut stream = self.stream(topic);
        stream.newest.number += 1;
        let number = stream.newest.number;
        stream.events.push_back((number, event.clone()));
        if stream.events.len() > MOST_EVENTS {
            stream.events.pop_front();
        }
    }

    pub(super) fn newest(&self, topic: &Topic) -> Mark {
        self.stream(topic).newest
    }

    pub(super) fn read(&self, topic: &Topic, after: Mark) -> Read {
        let stream = self.stream(topic);
        let newest = stream.newest;
        let oldest = stream.events.front().map_or(newest.number + 1, |(number, _)| *number);
        let is_whole = after.birth == newest.birth
            && after.number <= newest.number
            && after.number + 1 >= oldest;
        if !is_whole {
            return Read::Gap(newest);
        }
        let news = stream.events.iter().filter(|(number, _)| *number > after.number);
        Read::News(news.take(AT_ONCE).cloned().collect())
    }

    /// Gives a stream, which is kept from now on; begins it when there is none.
    fn stream(&self, topic: &Topic) -> RefMut<'_, Topic, Stream> {
        let now = self.clock.now();
        self.tidy(now);
        let begin = || {
            let birth = self.clock.wall_ms() * 1_000 + u64::from(rand::random::<u16>()) % 1_000;
            let newest = Mark { birth, number: 0 };
            Stream { newest, events: VecDeque::new(), until: now + KEPT_FOR }
        };
        let mut stream = self.streams.entry(topic.clone()).or_insert_with(begin);
        if stream.until <= now {
            *stream = begin();
        }
        stream.until = now + KEPT_FOR;
        stream
    }

    fn tidy(&self, now: BootInstant) {
        let tidied = BootInstant::from_nanos(self.tidied.load(Ordering::Relaxed));
        if now.saturating_duration_since(tidied) >= TIDY_EVERY {
            self.tidied.store(now.as_nanos(), Ordering::Relaxed);
            self.streams.retain(|_, stream| stream.until > now);
        }
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use understudy_runtime::clock::ManualClock;

    use super::*;
    use crate::record::Locator;

    fn event(number: u64) -> SessionEvent {
        SessionEvent::new("n", &number).unwrap()
    }

    fn numbers(read: Read) -> Vec<u64> {
        let Read::News(events) = read else { panic!("{read:?}") };
        events.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn t11_all_that_came_is_read_once_or_it_is_told_that_some_is_missing() {
        let clock = Arc::new(ManualClock::new());
        let log = MemoryLog::new(clock.clone());
        let (topic, other) = (Topic::Session(Locator::from_bytes([7; 16])), Topic::of_user("ann"));
        let begun = log.newest(&topic);
        assert_eq!(numbers(log.read(&topic, begun)), Vec::<u64>::new());
        for number in 1..=MOST_EVENTS as u64 {
            log.append(&topic, &event(number));
            log.append(&other, &event(0));
        }
        let (mut at, mut all) = (begun, Vec::new());
        loop {
            let read = numbers(log.read(&topic, at));
            let Some(last) = read.last() else { break };
            assert!(read.len() <= AT_ONCE);
            at.number = *last;
            all.extend(read);
        }
        assert_eq!(all, (1..=MOST_EVENTS as u64).collect::<Vec<_>>());
        log.append(&topic, &event(0));
        let newest = log.newest(&topic);
        assert_eq!(log.read(&topic, begun), Read::Gap(newest), "the first is not kept any more");
        assert_eq!(numbers(log.read(&topic, Mark { number: 1, ..begun })).first(), Some(&2));
        let ahead = Mark { number: newest.number + 1, ..newest };
        assert_eq!(log.read(&topic, ahead), Read::Gap(newest), "it was never there");
        let elsewhere = Mark { birth: newest.birth + 1_000, ..newest };
        assert_eq!(log.read(&topic, elsewhere), Read::Gap(newest), "of another stream");
        clock.advance(KEPT_FOR);
        let Read::Gap(anew) = log.read(&topic, newest) else { panic!("it is gone by then") };
        assert!(anew.number == 0 && anew.birth > newest.birth);
        assert_eq!(log.streams.len(), 1, "what nobody wants is thrown away");
    }
}
