//! Where a connection is: how far in the stream of its session, and in that of its user.

use std::fmt;

/// Longest text of a position: two times two numbers.
const LONGEST: usize = 96;

/// A place in a stream. A stream that begins anew has another birth, so a place of the one before means nothing in it. It does
/// at a server that comes after another one, too: that may lack the newest events, and gives their numbers to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// When the stream began, µs since 1970.
    pub(super) birth: u64,
    /// How many events there were up to here.
    pub(super) number: u64,
}

/// A place in both streams: the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) session: Mark,
    pub(super) user: Option<Mark>,
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let (birth, number) = text.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(birth) || !digits(number) {
            return None; // a sign is no digit
        }
        Some(Self { birth: birth.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.birth, self.number)
    }
}

impl Position {
    /// Where no stream ever is: whoever is there has missed something.
    pub(super) const NOWHERE: Self = {
        let nowhere = Mark { birth: 0, number: 0 };
        Self { session: nowhere, user: Some(nowhere) }
    };

    /// Reads what a client says; anything may be in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        match text.split_once('_') {
            None => Some(Self { session: Mark::parse(text)?, user: None }),
            Some((session, user)) => {
                Some(Self { session: Mark::parse(session)?, user: Some(Mark::parse(user)?) })
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.user {
            None => write!(f, "{}", self.session),
            Some(user) => write!(f, "{}_{user}", self.session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t11_a_position_is_read_as_it_is_written_and_nothing_else_is() {
        let most = Mark { birth: u64::MAX, number: u64::MAX };
        for user in [None, Some(most), Some(Mark { birth: 7, number: 0 })] {
            let position = Position { session: most, user };
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        let long = "1".repeat(97);
        for wrong in
            ["", "7", "7-", "-7", "7-x", "7-+1", "7-1_", "7-1_7", "7-1_7-1_7-1", "7-1\n", &long]
        {
            assert_eq!(Position::parse(wrong), None, "{wrong:?}");
        }
    }
}
