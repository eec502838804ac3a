//! A value that must not appear in logs, errors or the administration API.
//!
//! It only guards against showing a secret by accident; it does not wipe memory.

use std::fmt;

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
        for shown in [
            format!("{secret:?}"),
            format!("{secret:#?}"),
            format!("{:?}", Some(&secret)),
        ] {
            assert!(
                !shown.contains("hunter2") && shown.contains("******"),
                "{shown}"
            );
        }
        assert_eq!(secret.expose(), "hunter2");
    }
}
