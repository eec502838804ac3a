//! For how many bytes and files a space has room.
//!
//! While a file is written this is what was seen a moment ago: what is in vain is refused by it before it is stored. What
//! counts is decided in the transaction that gives the file its name, with the row of the space locked.

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr};

use super::{MAX_FILES, Rows};
use crate::database::{Backend, DatabaseError};
use crate::files::error::FileError;
use crate::files::rules::{self, SpaceRule};

/// What a space has, what its rule says, and what the file has that would be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) struct Room {
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// How many bytes the file of the same name has, if there is one.
    pub(super) replaced: Option<u64>,
    pub(super) rule: SpaceRule,
}

/// Why a space does not take a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum NoRoom {
    /// It would be larger than it may be, in bytes.
    Full { most: u64 },
    /// It has as many files as it may have.
    TooMany { most: u64 },
}

impl From<NoRoom> for FileError {
    fn from(refused: NoRoom) -> Self {
        match refused {
            NoRoom::Full { most } => Self::SpaceFull { most },
            NoRoom::TooMany { most } => Self::TooManyFiles { most },
        }
    }
}

impl Room {
    /// Says whether a file of so many bytes fits; `space_bytes` is what the space may have by the options. One that is not
    /// larger than what it replaces always does.
    pub(in crate::files) fn admit(&self, bytes: u64, space_bytes: u64) -> Result<(), NoRoom> {
        let most = self.rule.max_bytes.map_or(space_bytes, |most| most.min(space_bytes));
        let replaced = self.replaced.unwrap_or(0);
        let others = self.bytes.saturating_sub(replaced);
        if bytes > replaced && bytes > most.saturating_sub(others) {
            return Err(NoRoom::Full { most });
        }
        let most = self.rule.max_files.map_or(MAX_FILES, |most| most.min(MAX_FILES));
        if self.replaced.is_none() && self.files >= most {
            return Err(NoRoom::TooMany { most });
        }
        Ok(())
    }
}

/// Looks at a space and at the file of a name.
pub(super) async fn look(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    (space, name): (&str, &str),
) -> Result<Room, DbErr> {
    let sql = "SELECT space.bytes AS bytes, space.files AS files, file.bytes AS replaced \
        FROM us_file_space space LEFT JOIN us_file file \
        ON file.space = space.name AND file.name = $2 AND file.state = 'ready' \
        WHERE space.name = $1";
    let query = backend.statement(sql, [space.into(), name.into()]);
    let row = executor.query_one_raw(query).await?;
    let rule = rules::of(executor, backend, space).await?;
    // A space in which there is nothing has no row.
    let Some(row) = row else { return Ok(Room { bytes: 0, files: 0, replaced: None, rule }) };
    let (bytes, files): (i64, i64) = (row.try_get("", "bytes")?, row.try_get("", "files")?);
    let replaced: Option<i64> = row.try_get("", "replaced")?;
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Room { bytes: whole(bytes), files: whole(files), replaced: replaced.map(whole), rule })
}

impl Rows {
    /// Looks for how much a space has room, under the name of a file.
    pub(in crate::files) async fn room(
        &self,
        space: &str,
        name: &str,
    ) -> Result<Room, DatabaseError> {
        let backend = self.backend();
        let (space, name) = (space.to_owned(), name.to_owned());
        let room = self.database.read(move |executor| {
            let (space, name) = (space.clone(), name.clone());
            Box::pin(async move { look(executor, backend, (&space, &name)).await })
        });
        room.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f7_room_is_what_the_others_leave_and_what_is_replaced_makes_some() {
        let rule = SpaceRule { max_bytes: Some(100), max_files: Some(2), ..SpaceRule::default() };
        let room = Room { bytes: 90, files: 2, replaced: Some(40), rule };
        assert_eq!(room.admit(50, 1_000), Ok(()));
        assert_eq!(room.admit(51, 1_000), Err(NoRoom::Full { most: 100 }));
        assert_eq!(room.admit(41, 80), Err(NoRoom::Full { most: 80 }), "the option holds too");
        let full = Room { bytes: 500, ..room };
        assert_eq!(full.admit(40, 1_000), Ok(()), "nothing becomes larger by it");
        assert_eq!(full.admit(41, 1_000), Err(NoRoom::Full { most: 100 }));
        let new = Room { bytes: 90, files: 2, replaced: None, rule };
        assert_eq!(new.admit(10, 1_000), Err(NoRoom::TooMany { most: 2 }));
        assert_eq!(new.admit(11, 1_000), Err(NoRoom::Full { most: 100 }));
        let one = Room { files: 1, ..new };
        assert_eq!(one.admit(10, 1_000), Ok(()));
    }
}
