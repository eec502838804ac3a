//! Where looking for orphans ended, and how it goes on from there, round and round.

use sea_orm::{ConnectionTrait as _, Value};

use super::Place;
use crate::database::DatabaseError;
use crate::duty::DutyRun;
use crate::files::naming;
use crate::files::rows::Rows;

/// A way round all files that begins behind any of them: to the last one, and from the first one to where it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    began: Place,
    at: Place,
    half: Half,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    ToTheLast,
    ToWhereItBegan,
    Over,
}

impl Round {
    pub(super) fn begin(began: Place) -> Self {
        Self { at: began.clone(), began, half: Half::ToTheLast }
    }

    /// Behind what to look, and up to where.
    pub(super) fn stretch(&self) -> (&Place, Option<&Place>) {
        (&self.at, (self.half == Half::ToWhereItBegan).then_some(&self.began))
    }

    /// A file was looked at.
    pub(super) fn passed(&mut self, at: Place) {
        self.at = at;
    }

    /// A whole page was looked at; `next` is behind what the next one begins, if there is one.
    pub(super) fn turned(&mut self, next: Option<Place>) {
        if let Some(next) = next {
            self.at = next;
            return;
        }
        self.at = Place::default();
        // From the beginning there is no other half.
        let is_half = self.half == Half::ToTheLast && self.began != Place::default();
        self.half = if is_half { Half::ToWhereItBegan } else { Half::Over };
    }

    pub(super) fn is_over(&self) -> bool {
        self.half == Half::Over
    }

    /// Behind what the next round begins.
    pub(super) fn end(self) -> Place {
        self.at
    }
}

impl Rows {
    /// Gives the place at which the run before ended; the beginning, if none is noted.
    pub(super) async fn orphans_place(&self) -> Result<Place, DatabaseError> {
        let sql = "SELECT value FROM us_meta WHERE name = 'files_orphans_at'";
        let query = self.database.backend().statement(sql, []);
        let noted = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let row = executor.query_one_raw(query).await?;
                row.map(|row| row.try_get::<String>("", "value")).transpose()
            })
        });
        Ok(noted.await?.and_then(|noted| read(&noted)).unwrap_or_default())
    }

    /// Notes a place, if the run may still write.
    pub(super) async fn note_orphans_place(
        &self,
        (space, name): Place,
        run: &DutyRun,
    ) -> Result<(), DatabaseError> {
        let sql = "INSERT INTO us_meta (name, value) VALUES ('files_orphans_at', $1) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let value: Value = format!("{space}/{name}").into();
        let (note, run) = (self.database.backend().statement(sql, [value]), run.clone());
        let noted = self.database.transaction(move |executor| {
            let (note, run) = (note.clone(), run.clone());
            Box::pin(async move {
                run.guard(executor).await?;
                executor.execute_raw(note).await.map(|_| ())
            })
        });
        noted.await
    }
}

/// Reads a place as it was noted: neither a space nor a name has a slash. What is none is the beginning.
pub(super) fn read(noted: &str) -> Option<Place> {
    let (space, name) = noted.split_once('/')?;
    Some((naming::checked(space)?, naming::checked(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        ("space".to_owned(), name.to_owned())
    }

    #[test]
    fn a_round_ends_where_it_began() {
        let mut round = Round::begin(place("m"));
        assert_eq!(round.stretch(), (&place("m"), None));
        round.turned(Some(place("t")));
        assert_eq!(round.stretch(), (&place("t"), None));
        round.turned(None);
        let first = Place::default();
        assert_eq!(round.stretch(), (&first, Some(&place("m"))));
        round.passed(place("b"));
        assert_eq!(round.clone().end(), place("b"));
        round.turned(None);
        assert!(round.is_over());
        assert_eq!(round.end(), first);
        let mut whole = Round::begin(first);
        whole.turned(None);
        assert!(whole.is_over(), "from the beginning to the end is all");
    }

    #[test]
    fn a_place_that_cannot_be_read_is_the_beginning() {
        assert_eq!(read("avatars/ann"), Some(("avatars".to_owned(), "ann".to_owned())));
        for bad in ["", "/", "avatars", "/ann", "avatars/", "a/b/c", "../ann"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
