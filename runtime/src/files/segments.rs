//! How the content of an encrypted file lies in its store: in segments of 64 KiB, each sealed by itself, so that a part of a
//! file is read without the rest, and none of it is given before it was authenticated.
//!
//! The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: *Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance*, 2015), as in age and Tink. A file has a key of its own, which is used for no other. The nonce of a
//! segment is a prefix of the file, the number of the segment, and whether it is the last one; so segments that were cut off,
//! left out, doubled or put in another order do not open. The id of the content is authenticated with each, so none opens in
//! another file, whatever key that has.
//!
//! A store keeps pieces of several segments, without a head: what opens them is in the row of the file, see
//! [`encryption`](super::encryption). A file without a byte has no segment.

use std::fmt;

use super::contents::Piece;
use crate::sealing::{Cipher, KEY, NONCE, TAG};

/// Bytes of a file in one segment, but for the last one of a piece.
pub(super) const SEGMENT: usize = 65_536;
/// Bytes with which the nonces of a file begin.
pub(super) const PREFIX: usize = NONCE - COUNTER - 1;
/// Bytes of the number of a segment.
const COUNTER: usize = 8;
/// What is authenticated before the id of a content.
const BOUND: &[u8] = b"understudy file 1\0";

/// What encrypts and opens one content.
#[derive(Clone)]
pub(super) struct FileCipher {
    cipher: Cipher,
    prefix: [u8; PREFIX],
    bound: Vec<u8>,
}

/// Where a piece is within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Which piece, from 0.
    pub(super) number: u64,
    /// How many bytes of the file pieces have.
    pub(super) size: u64,
    pub(super) ending: Ending,
}

/// Whether something comes behind a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    More,
    Last,
}

impl Slot {
    /// The number of its first segment.
    fn first(self) -> u64 {
        self.number * self.size.div_ceil(SEGMENT as u64)
    }

    /// Whether a segment is the last of the file, given whether it is that of the piece.
    fn ends(self, is_last: bool) -> bool {
        is_last && self.ending == Ending::Last
    }
}

/// How long so many bytes of a file are when they are encrypted.
fn length(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(SEGMENT as u64) * TAG as u64
}

/// Where a piece of a file lies when it is encrypted, given how many bytes of the file pieces have.
pub(super) fn encrypted(piece: Piece, size: u64) -> Piece {
    let bytes = usize::try_from(length(piece.bytes as u64)).unwrap_or(usize::MAX);
    Piece { number: piece.number, offset: piece.number * length(size), bytes }
}

impl FileCipher {
    /// Takes the key of a content, the prefix of its nonces, and its id. The key must be used for no other content.
    pub(super) fn new(key: &[u8; KEY], prefix: [u8; PREFIX], id: &str) -> Self {
        Self { cipher: Cipher::new(key), prefix, bound: [BOUND, id.as_bytes()].concat() }
    }

    /// Encrypts a piece, and lets others have the thread now and then. Each is encrypted once.
    pub(super) async fn seal(&self, slot: Slot, piece: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(piece.len() + piece.len().div_ceil(SEGMENT) * TAG);
        let mut segments = piece.chunks(SEGMENT).peekable();
        let mut number = slot.first();
        while let Some(segment) = segments.next() {
            give_way(number - slot.first()).await;
            let nonce = self.nonce(number, slot.ends(segments.peek().is_none()));
            sealed.extend_from_slice(&self.cipher.seal(&nonce, &self.bound, segment));
            number += 1;
        }
        sealed
    }

    /// Opens a piece in the same way; `None` when it is not what was written there.
    pub(super) async fn open(&self, slot: Slot, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut piece = Vec::with_capacity(sealed.len());
        let mut segments = sealed.chunks(SEGMENT + TAG).peekable();
        let mut number = slot.first();
        while let Some(segment) = segments.next() {
            give_way(number - slot.first()).await;
            let nonce = self.nonce(number, slot.ends(segments.peek().is_none()));
            piece.extend_from_slice(&self.cipher.open(&nonce, &self.bound, segment)?);
            number += 1;
        }
        Some(piece)
    }

    /// The same for a piece of so few segments that nobody has to wait.
    #[cfg(test)]
    pub(super) fn seal_small(&self, slot: Slot, piece: &[u8]) -> Vec<u8> {
        let sealed = futures_util::FutureExt::now_or_never(self.seal(slot, piece));
        sealed.expect("it is small")
    }

    /// The same for a piece of so few segments that nobody has to wait.
    #[cfg(test)]
    pub(super) fn open_small(&self, slot: Slot, sealed: &[u8]) -> Option<Vec<u8>> {
        let opened = futures_util::FutureExt::now_or_never(self.open(slot, sealed));
        opened.expect("it is small")
    }

    fn nonce(&self, number: u64, is_last: bool) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..PREFIX].copy_from_slice(&self.prefix);
        nonce[PREFIX..PREFIX + COUNTER].copy_from_slice(&number.to_be_bytes());
        nonce[NONCE - 1] = u8::from(is_last);
        nonce
    }
}

/// Lets others have the thread when a few segments were sealed or opened: all of a piece takes milliseconds.
async fn give_way(segments: u64) {
    const FEW: u64 = 4;
    if segments > 0 && segments.is_multiple_of(FEW) {
        tokio::task::yield_now().await;
    }
}

impl fmt::Debug for FileCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileCipher(..)")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Pieces of three segments.
    const SIZE: usize = 3 * SEGMENT;
    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn cipher(id: &str) -> FileCipher {
        FileCipher::new(&[7; KEY], [9; PREFIX], id)
    }

    fn slot(number: u64, ending: Ending) -> Slot {
        Slot { number, size: SIZE as u64, ending }
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 251 + at) as u8).collect()
    }

    /// The pieces of a file as they lie in a store.
    fn pieces(content: &[u8]) -> Vec<Vec<u8>> {
        let pieces: Vec<&[u8]> = content.chunks(SIZE).collect();
        let seal = |(number, piece): (usize, &&[u8])| {
            let ending = if number + 1 == pieces.len() { Ending::Last } else { Ending::More };
            cipher(ID).seal_small(slot(number as u64, ending), piece)
        };
        pieces.iter().enumerate().map(seal).collect()
    }

    fn opened(number: u64, ending: Ending, sealed: &[u8]) -> Option<Vec<u8>> {
        cipher(ID).open_small(slot(number, ending), sealed)
    }

    #[test]
    fn f4_a_content_of_any_length_comes_back_and_lies_where_it_is_looked_for() {
        let lengths =
            [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE + 7];
        for length in lengths {
            let (content, mut offset) = (content(length), 0);
            let pieces = pieces(&content);
            assert_eq!(pieces.len(), length.div_ceil(SIZE), "a file without a byte has none");
            for (number, (sealed, plain)) in pieces.iter().zip(content.chunks(SIZE)).enumerate() {
                let piece = Piece {
                    number: number as u64,
                    offset: (number * SIZE) as u64,
                    bytes: plain.len(),
                };
                let lies = encrypted(piece, SIZE as u64);
                assert_eq!((lies.number, lies.offset), (piece.number, offset), "of {length}");
                assert_eq!(lies.bytes, sealed.len(), "of {length}");
                offset += sealed.len() as u64;
                let ending = if number + 1 == pieces.len() { Ending::Last } else { Ending::More };
                let back = opened(number as u64, ending, sealed);
                assert!(back.as_deref() == Some(plain), "of {length} bytes others came back");
                assert!(!sealed.windows(16).any(|window| plain.windows(16).next() == Some(window)));
            }
        }
    }

    #[tokio::test]
    async fn f4_a_large_piece_is_sealed_and_opened_while_others_have_their_turn() {
        let (cipher, content) = (cipher(ID), content(20 * SEGMENT + 5));
        let slot = Slot { number: 0, size: content.len() as u64, ending: Ending::Last };
        let mut sealing = std::pin::pin!(cipher.seal(slot, &content));
        assert!(sealing.as_mut().now_or_never().is_none(), "it keeps the thread");
        let sealed = sealing.await;
        let mut opening = std::pin::pin!(cipher.open(slot, &sealed));
        assert!(opening.as_mut().now_or_never().is_none(), "it keeps the thread");
        assert!(opening.await.is_some_and(|opened| opened == content));
    }

    #[test]
    fn f4_no_bit_can_be_changed() {
        let sealed = pieces(&content(SEGMENT + 5)).remove(0);
        // Both segments: at their ends, and somewhere within.
        let (first, all) = (SEGMENT + TAG, sealed.len());
        for at in [0, 1, SEGMENT / 2, first - TAG, first - 1, first, first + 4, all - TAG, all - 1]
        {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(opened(0, Ending::Last, &changed), None, "bit {bit} of byte {at}");
            }
        }
        assert!(opened(0, Ending::Last, &sealed).is_some());
    }

    #[test]
    fn f4_nothing_can_be_cut_off_or_added() {
        let whole = pieces(&content(SIZE + SEGMENT + 3));
        let (before, last) = (&whole[0], &whole[1]);
        for length in [last.len() - 1, SEGMENT + TAG + 1, SEGMENT + TAG, SEGMENT, TAG, TAG - 1, 1] {
            assert_eq!(opened(1, Ending::Last, &last[..length]), None, "cut to {length}");
        }
        // A file that is said to end with its first piece, and one that is said to go on.
        assert_eq!(opened(0, Ending::Last, before), None);
        assert_eq!(opened(1, Ending::More, last), None);
        assert_eq!(opened(0, Ending::Last, &before[..SEGMENT + TAG]), None);
        for more in [&[0][..], &before[..SEGMENT + TAG], &last[SEGMENT + TAG..]] {
            let longer = [last.as_slice(), more].concat();
            assert_eq!(opened(1, Ending::Last, &longer), None, "{} bytes more", more.len());
        }
        assert!(opened(0, Ending::More, before).is_some());
        assert!(opened(1, Ending::Last, last).is_some());
    }

    #[test]
    fn f4_no_segment_opens_in_the_place_of_another() {
        const STEP: usize = SEGMENT + TAG;
        let whole = pieces(&content(2 * SIZE));
        assert_eq!(opened(1, Ending::Last, &whole[0]), None);
        assert_eq!(opened(1, Ending::More, &whole[0]), None);
        assert_eq!(opened(0, Ending::More, &whole[1]), None);
        let (first, rest) = whole[0].split_at(STEP);
        let (second, third) = rest.split_at(STEP);
        for order in [[second, first, third], [first, third, second], [first, first, third]] {
            assert_eq!(opened(0, Ending::More, &order.concat()), None);
        }
        assert_eq!(opened(0, Ending::More, rest), None, "the first is left out");
    }

    #[test]
    fn f4_no_segment_opens_in_another_file_nor_under_another_key() {
        let sealed = pieces(&content(10)).remove(0);
        let slot = slot(0, Ending::Last);
        assert!(cipher(ID).open_small(slot, &sealed).is_some());
        // The same key, which no two files have.
        assert_eq!(cipher("ffffffffffffffffffffffffffffffff").open_small(slot, &sealed), None);
        assert_eq!(FileCipher::new(&[8; KEY], [9; PREFIX], ID).open_small(slot, &sealed), None);
        assert_eq!(FileCipher::new(&[7; KEY], [8; PREFIX], ID).open_small(slot, &sealed), None);
        assert!(!format!("{:?}", cipher(ID)).contains('7'));
    }
}
