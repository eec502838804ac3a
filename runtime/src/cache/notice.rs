//! What all nodes are told of a value that is forgotten, as `forget.lua` wants it; and many of them as one call.

use std::time::Duration;

use super::shared::{MOST_ENTRIES, Step, millis};
use crate::keys::{CachePart, KeySpace};
use crate::redis::Arg;

/// What is told of one value.
#[derive(Debug)]
pub(super) struct Notice {
    key: String,
    value: String,
    lease: String,
    change: Option<Change>,
}

/// A change around which it is told.
#[derive(Debug)]
struct Change {
    writers: String,
    word: String,
    /// How long loading is held up if it never ends; zero at its end.
    hold: Duration,
}

impl Notice {
    /// Makes that of a value in a region; the word is that of whoever changes it.
    pub(super) fn new(
        (keys, region): (&KeySpace, &str),
        key: &str,
        (step, word): (Step, &str),
        hold: Duration,
    ) -> Self {
        let hold = match step {
            Step::Once => None,
            Step::Begin => Some(hold),
            Step::End => Some(Duration::ZERO),
        };
        let change = hold.map(|hold| Change {
            writers: keys.cache(region, CachePart::Writers(key)),
            word: word.to_owned(),
            hold,
        });
        Self {
            key: key.to_owned(),
            value: keys.cache(region, CachePart::Value(key)),
            lease: keys.cache(region, CachePart::Lease(key)),
            change,
        }
    }

    /// Whether it is told around a change.
    pub(super) fn is_of_change(&self) -> bool {
        self.change.is_some()
    }

    /// How many bytes it adds to a call, but for a few.
    pub(super) fn bytes(&self) -> usize {
        let change = self.change.as_ref();
        let around = change.map_or(0, |change| change.writers.len() + change.word.len());
        self.key.len() + self.value.len() + self.lease.len() + around
    }
}

/// Spells notices as the keys and arguments of one call; `head` are the keys that it begins with.
pub(super) fn spell(head: [String; 2], notices: Vec<Notice>) -> (Vec<String>, Vec<Arg>) {
    let count = notices.len();
    let mut keys: Vec<String> = Vec::with_capacity(head.len() + 3 * count);
    let mut args: Vec<Arg> = Vec::with_capacity(2 + 3 * count);
    keys.extend(head);
    args.extend([Arg::from(MOST_ENTRIES.to_string()), Arg::from(count.to_string())]);
    let mut changes: Vec<Change> = Vec::new();
    for Notice { key, value, lease, change } in notices {
        keys.extend([value, lease]);
        args.push(Arg::from(key));
        changes.extend(change);
    }
    // After all values: most are told of without one.
    for Change { writers, word, hold } in changes {
        keys.push(writers);
        args.extend([Arg::from(word), millis(hold)]);
    }
    (keys, args)
}
