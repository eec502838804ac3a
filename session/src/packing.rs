//! Packs large values on their way into a store, before they are sealed, and unpacks them on their way out. What is packed
//! when, and how a store tells it, is in [`crate::store::sealed`].
//!
//! The format is zlib (RFC 1950), whose checksum finds what was damaged. It is fast before it is small: a value of 64 KiB takes
//! its owner in the order of a millisecond. What comes out is bounded, for each session as a whole, *before* memory is given for
//! it: a few bytes in a store could ask for gigabytes otherwise.

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

/// Little effort: JSON shrinks to a third all the same.
const LEVEL: u8 = 1;
/// So many bytes a session may unpack to at least, whatever its limit is now: it may have been written under a larger one.
const LEAST: usize = 16 * 1024 * 1024;

/// What a node packs, and how much it unpacks.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    above: usize,
    most: usize,
}

/// How much a session may still unpack to.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
    most: usize,
}

/// Why a value cannot be unpacked. It shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It would be larger than any session may be.
    #[error(
        "it is packed, and unpacked it has more than {0} bytes; a higher UNDERSTUDY_SESSION_MAX_BYTES allows more"
    )]
    TooLarge(usize),
    /// It was damaged.
    #[error("it is packed, and what stands there cannot be unpacked: it was changed")]
    Broken,
}

impl Packing {
    /// Packs values of more than `above` bytes, none if that is 0; sessions have up to `session_bytes`.
    #[must_use]
    pub fn new(above: usize, session_bytes: usize) -> Self {
        Self { above, most: session_bytes.max(LEAST) }
    }

    /// Packs nothing, and unpacks what it finds.
    #[must_use]
    pub fn off() -> Self {
        Self::new(0, 0)
    }

    /// Says whether anything is packed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.above > 0
    }

    /// Says whether this value is to be packed.
    #[must_use]
    pub fn wants(&self, text: &str) -> bool {
        self.is_on() && text.len() > self.above
    }

    /// Packs a value; `None` when it is not to be, or would not get smaller.
    pub(crate) fn pack(&self, text: &str) -> Option<Vec<u8>> {
        if !self.wants(text) {
            return None;
        }
        Some(compress_to_vec_zlib(text.as_bytes(), LEVEL))
            .filter(|packed| packed.len() < text.len())
    }

    /// Gives what one session may unpack to.
    pub(crate) fn budget(&self) -> Budget {
        Budget { left: self.most, most: self.most }
    }
}

/// Unpacks a value, and takes its size off the budget.
pub(crate) fn unpack(packed: &[u8], budget: &mut Budget) -> Result<String, UnpackError> {
    let plain = decompress_to_vec_zlib_with_limit(packed, budget.left).map_err(|error| {
        if error.status == TINFLStatus::HasMoreOutput {
            UnpackError::TooLarge(budget.most)
        } else {
            UnpackError::Broken
        }
    })?;
    budget.left = budget.left.saturating_sub(plain.len());
    String::from_utf8(plain).map_err(|_| UnpackError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_smaller_and_comes_back() {
        let packing = Packing::new(100, 1_000);
        let text = "{\"title\":\"ü\"},".repeat(50);
        let packed = packing.pack(&text).expect("it is large");
        assert!(packed.len() * 3 < text.len(), "{} of {}", packed.len(), text.len());
        assert_eq!(unpack(&packed, &mut Packing::off().budget()).unwrap(), text);
    }

    #[test]
    fn small_values_and_those_that_do_not_shrink_are_left_alone() {
        let packing = Packing::new(100, 1_000);
        assert_eq!(packing.pack(&"x".repeat(100)), None);
        assert!(packing.pack(&"x".repeat(101)).is_some());
        let random: String = (0..50).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
        let packed = packing.pack(&random).expect("digits have half of their bits to spare");
        assert!(packed.len() < random.len());
        let all_different: String = (' '..='~').chain("äöüß".chars()).collect();
        assert!(packing.wants(&all_different));
        assert_eq!(packing.pack(&all_different), None, "it would be larger");
        assert_eq!(Packing::off().pack(&"x".repeat(1_000_000)), None);
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        let packing = Packing::new(1, 1);
        let half = "x".repeat(LEAST / 2);
        let packed = packing.pack(&half).expect("it is large");
        assert!(packed.len() < LEAST / 100, "a bomb: {} bytes", packed.len());
        let mut budget = packing.budget();
        for _ in 0..2 {
            assert_eq!(unpack(&packed, &mut budget).unwrap().len(), half.len());
        }
        let refused = unpack(&packed, &mut budget).unwrap_err();
        assert!(
            matches!(refused, UnpackError::TooLarge(LEAST)),
            "what the whole session may: {refused}"
        );
        assert!(refused.to_string().contains("UNDERSTUDY_SESSION_MAX_BYTES"));
        let larger = Packing::new(1, 2 * LEAST);
        let mut budget = larger.budget();
        assert!((0..4).all(|_| unpack(&packed, &mut budget).is_ok()), "a higher limit allows more");
    }

    #[test]
    fn what_was_damaged_is_refused() {
        let packing = Packing::new(10, 1_000);
        let packed = packing.pack(&"canary ".repeat(20)).expect("it is large");
        let damaged: [&[u8]; 4] = [&packed[..packed.len() - 1], &packed[1..], b"", b"plain"];
        for bad in damaged {
            let error = unpack(bad, &mut packing.budget()).unwrap_err();
            assert!(matches!(error, UnpackError::Broken), "{error}");
        }
        let mut changed = packed.clone();
        *changed.last_mut().expect("bytes") ^= 1;
        assert!(unpack(&changed, &mut packing.budget()).is_err(), "the checksum tells");
        let latin = compress_to_vec_zlib(&[b'"', 0xfc, b'"'], LEVEL);
        assert!(unpack(&latin, &mut packing.budget()).is_err(), "no text");
    }
}
