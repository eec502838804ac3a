//! What a history is like: each has a few things that happen often in it, and some that never do, so that all of them together see
//! more than if each had the mean of all.

use super::Random;

/// What the clock goes on by; in some histories only by the first of these.
pub(super) const PAUSES: [u64; 8] = [20, 100, 300, 700, 1_500, 1_990, 4_500, 9_000];
/// What may happen in a step.
pub(super) const KINDS: usize = 12;

/// What a history is like: what happens often in it, and what never.
#[derive(Debug)]
pub(super) struct Weather {
    /// Up to which number of a draw each kind of step goes.
    pub(super) ends: [u64; KINDS],
    /// How many of the [`PAUSES`] there are.
    pub(super) pauses: usize,
    pub(super) slow: Slow,
    /// Whether what changed is also forgotten by its tag, and with all else.
    pub(super) tagged: bool,
}

/// What takes longer than all else in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slow {
    Nothing,
    /// To look into memory after up to when it is trusted.
    Peeking,
    /// To hear that a change was told.
    Telling,
    /// To make a change.
    Changing,
    /// To hear what is in the log.
    Hearing,
    /// To forget what it tells, and what was loaded meanwhile lands late.
    Forgetting,
}

impl Weather {
    pub(super) fn of(random: &mut Random) -> Self {
        let looks = [30, 120, 250, 400][random.at(4)];
        let changes = [4, 12, 40][random.at(3)];
        let goes_on = [60, 200][random.at(2)];
        let clock = [20, 60, 120][random.at(3)];
        let mut sometimes = |weight: u64, times: u64| if random.one_in(times) { weight } else { 0 };
        let (replicates, taken_over) = (sometimes(40, 2), sometimes(8, 4));
        let (emptied, cut) = (sometimes(4, 8), sometimes(50, 3));
        let (others, cleared) = (sometimes(60, 2), sometimes(6, 6));
        let mut ends = [
            80, 400, looks, changes, goes_on, clock, replicates, taken_over, emptied, cut, others,
            cleared,
        ];
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let pauses = 3 + random.at(PAUSES.len() - 2);
        let slow = [Slow::Peeking, Slow::Telling, Slow::Changing, Slow::Hearing, Slow::Forgetting];
        let slow = slow.get(random.at(8)).copied().unwrap_or(Slow::Nothing);
        Self { ends, pauses, slow, tagged: random.one_in(2) }
    }
}
