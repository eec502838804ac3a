//! What is written into files: made anew whenever it is needed, since it is too large to be kept.

use sha2::{Digest as _, Sha256};

pub(super) const MIB: usize = 1 << 20;

/// The content of a file: so many MiB, other ones for each seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) seed: u64,
    pub(super) mebibytes: u64,
}

impl Content {
    /// One MiB of it.
    pub(super) fn block(self, number: u64) -> Vec<u8> {
        let mut state = ((self.seed << 32) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut block = vec![0; MIB];
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        block
    }

    pub(super) fn bytes(self) -> u64 {
        self.mebibytes * MIB as u64
    }

    pub(super) fn digest(self) -> String {
        let mut hash = Sha256::new();
        for number in 0..self.mebibytes {
            hash.update(self.block(number));
        }
        hex(hash)
    }
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().as_slice().iter().map(|byte| format!("{byte:02x}")).collect()
}
