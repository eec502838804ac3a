//! A value that must not appear in logs, errors or the administration API.
//!
//! It only guards against showing a secret by accident; it does not wipe memory.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Holds a secret and shows `******` in its place.
#[derive(Clone)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value itself: to be passed on at once to what needs it, never to be formatted.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<String> {
    /// Gives 12 hexadecimal digits by which two nodes can tell that they have the same secret; nobody can work the
    /// secret out from them unless it is guessable. `purpose` keeps one secret used for two things apart.
    #[must_use]
    pub fn fingerprint(&self, purpose: &str) -> String {
        let digest =
            Sha256::new().chain_update(purpose).chain_update([0]).chain_update(&self.0).finalize();
        digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x4_a_secret_shows_stars_however_it_is_printed() {
        let secret = Secret::new("hunter2".to_owned());
        for shown in [format!("{secret:?}"), format!("{secret:#?}"), format!("{:?}", Some(&secret))]
        {
            assert!(!shown.contains("hunter2") && shown.contains("******"), "{shown}");
        }
        assert_eq!(secret.expose(), "hunter2");
    }
}
