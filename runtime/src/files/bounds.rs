//! What holds for the files that are written through one handle on a space, beside what holds for all.

use super::encryption::Encryption;
use super::error::FileError;
use super::kinds::Kinds;
use super::{Limits, Space, naming};

/// Bounds of one handle; the default is that there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bounds {
    pub(super) file_bytes: Option<u64>,
    pub(super) space_bytes: Option<u64>,
    pub(super) kinds: Kinds,
    pub(super) encryption: Encryption,
}

impl Space {
    /// Takes no file of more bytes than these through this handle; the limit of the node holds too.
    ///
    /// ```
    /// # use understudy_runtime::files::Files;
    /// # let files = Files::default();
    /// let avatars = files.space("avatars").at_most(1_000_000).pictures_only();
    /// # drop(avatars);
    /// ```
    #[must_use]
    pub fn at_most(mut self, file_bytes: u64) -> Self {
        self.bounds.file_bytes = Some(file_bytes);
        self
    }

    /// Lets the files of the space have no more bytes together than these after a write through this handle; the limit of the
    /// node holds too. It is decided in the transaction that gives a file its name.
    #[must_use]
    pub fn quota(mut self, space_bytes: u64) -> Self {
        self.bounds.space_bytes = Some(space_bytes);
        self
    }

    /// Takes pictures only through this handle, PNG, JPEG, GIF, WebP and AVIF, by the type that is said *and* by how they
    /// begin; anything else is refused with [`WrongKind`](super::FileError::WrongKind).
    #[must_use]
    pub fn pictures_only(mut self) -> Self {
        self.bounds.kinds = Kinds::Pictures;
        self
    }

    /// Has files that are written through this handle encrypted, whatever `UNDERSTUDY_FILES_ENCRYPTION_KEYS` says of others: under
    /// its first key. Without any key, writing fails with [`NoKey`](super::FileError::NoKey).
    ///
    /// ```
    /// # use understudy_runtime::files::Files;
    /// # let files = Files::default();
    /// let papers = files.space("papers").encrypted();
    /// let maps = files.space("maps").not_encrypted();
    /// # drop((papers, maps));
    /// ```
    #[must_use]
    pub fn encrypted(mut self) -> Self {
        self.bounds.encryption = Encryption::Always;
        self
    }

    /// Has files that are written through this handle not encrypted, whatever the option says of others: what everybody may read,
    /// or what is to share its content with others.
    #[must_use]
    pub fn not_encrypted(mut self) -> Self {
        self.bounds.encryption = Encryption::Never;
        self
    }

    /// Refuses a file that is announced to have more bytes than there is room for, before any of it is read. What counts is
    /// what comes.
    pub(super) async fn fits(&self, name: &str, announced: Option<u64>) -> Result<(), FileError> {
        let Some(bytes) = announced else { return Ok(()) };
        let (store, space) = self.entered()?;
        let name = naming::file_name(name)?;
        let limits = store.limits.within(&self.bounds);
        if bytes > limits.file_bytes {
            return Err(FileError::TooLarge { most: limits.file_bytes });
        }
        Ok(store.rows.room(&space, &name).await?.admit(bytes, limits.space_bytes)?)
    }
}

impl Limits {
    /// The narrower of these limits and those of the bounds.
    pub(super) fn within(self, bounds: &Bounds) -> Self {
        let least = |limit: u64, bound: Option<u64>| bound.map_or(limit, |bound| limit.min(bound));
        Self {
            file_bytes: least(self.file_bytes, bounds.file_bytes),
            space_bytes: least(self.space_bytes, bounds.space_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_narrows_a_limit_and_never_widens_it() {
        let limits = Limits { file_bytes: 10, space_bytes: 20 };
        let bounds = Bounds { file_bytes: Some(5), space_bytes: Some(30), ..Bounds::default() };
        let narrowed = limits.within(&bounds);
        assert_eq!((narrowed.file_bytes, narrowed.space_bytes), (5, 20));
        let same = limits.within(&Bounds::default());
        assert_eq!((same.file_bytes, same.space_bytes), (10, 20));
    }
}
