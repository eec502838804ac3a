//! Rolls of users, pages and counts.
//!
//! A roll is the rows of `us_session_user` with its user's name. Here too the row of the session says whose it is; the roll
//! is kept by statements of its own, before and after, as on every store. Whoever changes a roll by what is on it holds a
//! lock for that user meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Statement};
use understudy_runtime::database::DatabaseError;
use understudy_runtime::ids::NodeId;

use super::statements::register::{look, take_off_rolls};
use super::{DatabaseStore, row};
use crate::record::Locator;
use crate::store::StoreError;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage, OnlineUser};
use crate::store::register::{
    Condemn, Confirmed, Count, Cursor, Enrolled, Enrolment, Glimpse, Listed, Page, Place, Progress,
    Roll, SessionRegister, Sight, StillHeld,
};

/// Most sessions that one statement looks at.
const LOOKS: usize = 256;

type Places = Vec<Listed>;

/// How the roll of one user is read by somebody who is alone with it until the transaction ends.
#[derive(Debug, Clone)]
struct Alone {
    lock: Option<Statement>,
    places: Statement,
}

impl Alone {
    /// Waits until nobody else is at the roll. Comes before the first change: whoever changes a row and then waits could
    /// be waited for by the one who holds the lock.
    async fn begin(&self, executor: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
        if let Some(lock) = &self.lock {
            executor.query_one_raw(lock.clone()).await?;
        }
        Ok(())
    }

    async fn places(&self, executor: &DatabaseExecutor<'_>) -> Result<Places, DbErr> {
        read_places(executor, self.places.clone()).await
    }
}

impl DatabaseStore {
    fn alone(&self, user: &str) -> Alone {
        let register = &self.statements.register;
        let about = |sql: &str| self.statement(sql, vec![user.into()]);
        Alone {
            lock: (!register.lock.is_empty()).then(|| about(register.lock)),
            places: about(register.places),
        }
    }

    fn about_place(&self, sql: &str, user: &str, locator: Locator) -> Statement {
        self.statement(sql, vec![user.into(), locator.to_string().into()])
    }

    /// Takes a session that is over off the rolls; whoever looks next does it when this fails.
    pub(super) async fn take_off_rolls(&self, locator: Locator) {
        let statement = take_off_rolls(self.database.backend(), &[locator.to_string()]);
        if let Err(error) = self.count_rows(statement).await {
            tracing::debug!(%error, "the roll of a user names a session that is over");
        }
    }

    pub(super) async fn fetch_all(&self, query: Statement) -> Result<Vec<QueryResult>, StoreError> {
        let read = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_all_raw(query).await })
        });
        Ok(read.await?)
    }

    /// Condemns all, or all but one.
    async fn condemn_all(
        &self,
        user: &str,
        spared: Option<Locator>,
    ) -> Result<Vec<Place>, StoreError> {
        let alone = Arc::new(self.alone(user));
        let register = &self.statements.register;
        let roll = self.statement(register.roll, vec![user.into()]);
        let no_session = String::new();
        let spared_text = spared.map_or(no_session, |spared| spared.to_string());
        let all = self.statement(register.condemn_all, vec![user.into(), spared_text.into()]);
        let condemned = self.database.transaction(move |executor| {
            let (alone, roll, all) = (Arc::clone(&alone), roll.clone(), all.clone());
            Box::pin(async move {
                alone.begin(executor).await?;
                let places = read_places(executor, roll).await?;
                executor.execute_raw(all).await?;
                let condemned = places.into_iter().filter(|(place, progress)| {
                    Some(place.locator) != spared || *progress == Progress::Condemned
                });
                Ok(condemned.map(|(place, _)| place).collect())
            })
        });
        Ok(condemned.await?)
    }

    async fn condemn_beyond(&self, user: &str, most: u32) -> Result<Vec<Place>, StoreError> {
        let alone = Arc::new(self.alone(user));
        let (store, user) = (self.clone(), user.to_owned());
        let condemned = self.database.transaction(move |executor| {
            let (alone, store, user) = (Arc::clone(&alone), store.clone(), user.clone());
            Box::pin(async move {
                alone.begin(executor).await?;
                let places = alone.places(executor).await?;
                let beyond = standing(&places).count().saturating_sub(most as usize);
                for place in standing(&places).take(beyond) {
                    let sql = store.statements.register.condemn;
                    let one = store.about_place(sql, &user, place.locator);
                    executor.execute_raw(one).await?;
                }
                let condemned = alone.places(executor).await?.into_iter();
                let condemned = condemned.filter(|(_, it)| *it == Progress::Condemned);
                Ok(condemned.map(|(place, _)| place).collect())
            })
        });
        Ok(condemned.await?)
    }

    /// Gives ids to sessions that nodes of an older version began.
    async fn name_the_nameless(&self) -> Result<(), StoreError> {
        let nameless = self.statement(self.statements.register.nameless, Vec::new());
        for row in self.fetch_all(nameless).await? {
            let locator = row::text(&row, "locator")?;
            let Ok(parsed) = locator.parse::<Locator>() else { continue };
            let values = vec![locator.into(), parsed.public_id().into()];
            self.count_rows(self.statement(self.statements.register.name, values)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl SessionRegister for DatabaseStore {
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError> {
        let Enrolment { user, locator, most, .. } = enrolment;
        let alone = Arc::new(self.alone(user));
        let insert = self.about_place(&self.statements.register.enroll, user, locator);
        let enrolled = self.database.transaction(move |executor| {
            let (alone, insert) = (Arc::clone(&alone), insert.clone());
            Box::pin(async move {
                alone.begin(executor).await?;
                let places = alone.places(executor).await?;
                let before = places.iter().find(|(place, _)| place.locator == locator);
                let others = places.iter().filter(|(place, progress)| {
                    place.locator != locator && *progress != Progress::Condemned
                });
                if before.is_some_and(|(_, progress)| *progress == Progress::Condemned) {
                    return Ok(Enrolled::Condemned);
                }
                if most.is_some_and(|most| others.count() >= most as usize) {
                    return Ok(Enrolled::Full);
                }
                let row = executor.query_one_raw(insert).await?.ok_or_else(no_row)?;
                let at_ms = row.try_get::<i64>("", "at_ms")?.cast_unsigned();
                Ok(Enrolled::In { place: Place { at_ms, locator }, again: before.is_some() })
            })
        });
        Ok(enrolled.await?)
    }

    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError> {
        let alone = Arc::new(self.alone(user));
        let confirm = self.about_place(self.statements.register.confirm, user, locator);
        let confirmed = self.database.transaction(move |executor| {
            let (alone, confirm) = (Arc::clone(&alone), confirm.clone());
            Box::pin(async move {
                alone.begin(executor).await?;
                if executor.execute_raw(confirm).await?.rows_affected() == 0 {
                    return Ok(Confirmed::Lost);
                }
                let places = alone.places(executor).await?;
                Ok(Confirmed::Stands { standing: standing(&places).count() as u64 })
            })
        });
        Ok(confirmed.await?)
    }

    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError> {
        match which {
            Condemn::All => self.condemn_all(user, None).await,
            Condemn::Others(spared) => self.condemn_all(user, Some(spared)).await,
            Condemn::Beyond(most) => self.condemn_beyond(user, most).await,
        }
    }

    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError> {
        for (place, progress) in places {
            let sql = self.statements.register.strike;
            let mut values = vec![user.into(), place.locator.to_string().into()];
            values.extend([row::number(place.at_ms), progress.as_str().into()]);
            self.count_rows(self.statement(sql, values)).await?;
        }
        Ok(())
    }

    async fn roll(&self, user: &str) -> Result<Roll, StoreError> {
        let register = &self.statements.register;
        let now = self.statement(&register.now, Vec::new());
        let roll = self.statement(register.roll, vec![user.into()]);
        let read = self.database.read(move |executor| {
            let (now, roll) = (now.clone(), roll.clone());
            Box::pin(async move {
                let row = executor.query_one_raw(now).await?.ok_or_else(no_row)?;
                let now_ms = row.try_get::<i64>("", "now_ms")?.cast_unsigned();
                Ok(Roll { now_ms, places: read_places(executor, roll).await? })
            })
        });
        Ok(read.await?)
    }

    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError> {
        let mut sights: BTreeMap<Locator, Sight> = BTreeMap::new();
        for some in locators.chunks(LOOKS) {
            let texts: Vec<String> = some.iter().map(ToString::to_string).collect();
            let query = look(self.database.backend(), row::time(self.slack_ms), &texts);
            for row in self.fetch_all(query).await? {
                let locator = row::text(&row, "locator")?;
                let locator: Result<Locator, _> = locator.parse();
                let locator = locator.map_err(|error| row::unreadable("locator", error))?;
                sights.insert(locator, sight_of(&row)?);
            }
        }
        let sight = |locator| sights.get(locator).cloned().unwrap_or(Sight::Gone);
        Ok(locators.iter().map(sight).collect())
    }

    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        if after.is_none() {
            self.name_the_nameless().await?;
        }
        let after = after.map_or_else(String::new, |cursor| cursor.id.clone());
        let values = vec![after.into(), row::time(self.slack_ms), i64::from(limit).into()];
        let rows = self.fetch_all(self.statement(&self.statements.register.page, values)).await?;
        let mut page = Page::default();
        for row in &rows {
            match sight_of(row)? {
                Sight::Seen(glimpse) => page.sessions.push(glimpse),
                Sight::Unreadable => page.unreadable += 1,
                Sight::Gone => {}
            }
        }
        if let Some(last) = rows.last().filter(|_| rows.len() >= limit as usize) {
            page.next = Some(Cursor { part: 0, id: row::text(last, "public_id")? });
        }
        Ok(page)
    }

    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        self.name_the_nameless().await?;
        let values = vec![id.into(), behind(id).into()];
        let rows = self.fetch_all(self.statement(self.statements.register.find, values)).await?;
        let texts = rows.iter().map(|row| row::text(row, "locator"));
        Ok(texts
            .filter_map(|text| text.map(|text| text.parse().ok()).transpose())
            .collect::<Result<_, StoreError>>()?)
    }

    async fn count(&self) -> Result<Count, StoreError> {
        let values = vec![row::time(self.slack_ms)];
        let count = self.statement(&self.statements.register.count, values);
        let row = self
            .fetch(count)
            .await?
            .ok_or_else(|| StoreError::from(DatabaseError::from(no_row())))?;
        Ok(Count {
            sessions: row::read_number(&row, "sessions")?,
            named: row::read_number(&row, "named")?,
            users: Some(row::read_number(&row, "users")?),
        })
    }

    /// The sessions themselves tell it.
    async fn seen(&self, _locator: Locator, _user: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn guest_left(&self, _locator: Locator) -> Result<(), StoreError> {
        Ok(())
    }

    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        let last = after.and_then(|cursor| cursor.last.clone());
        let last = last.unwrap_or(OnlineUser { user: String::new(), seen_ms: u64::MAX });
        let values = vec![
            row::time(self.slack_ms),
            row::time(within_ms.saturating_add(self.slack_ms)),
            row::time(last.seen_ms),
            last.user.into(),
            i64::from(limit).into(),
        ];
        let online = self.statement(&self.statements.register.online, values);
        let rows = self.fetch_all(online).await?;
        let users = rows.iter().map(|row| {
            let user = row::text(row, "user_name")?;
            Ok(OnlineUser { user, seen_ms: row::read_number(row, "seen_ms")? })
        });
        let users = users.collect::<Result<Vec<_>, StoreError>>()?;
        let last = users.last().filter(|_| users.len() >= limit as usize).cloned();
        Ok(OnlinePage { next: last.map(|last| OnlineCursor { part: 0, last: Some(last) }), users })
    }

    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        let since = row::time(within_ms.saturating_add(self.slack_ms));
        let values = vec![row::time(self.slack_ms), since];
        let count = self.statement(&self.statements.register.count_online, values);
        let row = self.fetch(count).await?;
        let row = row.ok_or_else(|| StoreError::from(DatabaseError::from(no_row())))?;
        Ok(OnlineCount {
            users: row::read_number(&row, "users")?,
            guests: row::read_number(&row, "guests")?,
        })
    }

    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError> {
        let look = self.about(&self.statements.look, locator);
        let Some(row) = self.fetch(look).await? else { return Ok(None) };
        let node = row::optional_text(&row, "owner_node")?;
        let node: Option<NodeId> = node.and_then(|node| node.parse().ok());
        let for_ms = lease_ms(&row)?;
        Ok(node.filter(|_| for_ms > 0).map(|node| StillHeld { node, for_ms }))
    }
}

/// Gives what comes behind all ids that begin so, in whichever order the database has texts: letters follow each other and
/// come after digits in each, which punctuation does not (`en_US.UTF-8` has `~` before `0`).
pub(super) fn behind(id: &str) -> String {
    format!("{id}g")
}

async fn read_places(executor: &DatabaseExecutor<'_>, query: Statement) -> Result<Places, DbErr> {
    let rows = executor.query_all_raw(query).await?;
    rows.iter().filter_map(|row| place(row).transpose()).collect()
}

/// The places that stand, the oldest first.
fn standing(places: &Places) -> impl Iterator<Item = Place> {
    let standing = places.iter().filter(|(_, progress)| *progress == Progress::Stands);
    standing.map(|(place, _)| *place)
}

/// Reads a place; `None` when it is not one of ours.
fn place(row: &QueryResult) -> Result<Option<Listed>, DbErr> {
    let [locator, progress] = [row.try_get::<String>("", "locator")?, row.try_get("", "progress")?];
    let at_ms = row.try_get::<i64>("", "at_ms")?.cast_unsigned();
    let progress = Progress::from_text(&progress);
    let place = locator.parse().ok().map(|locator| Place { at_ms, locator });
    Ok(place.zip(progress))
}

/// Reads what a look shows. A row that cannot be read is left alone, and does not hold up those beside it.
fn sight_of(row: &QueryResult) -> Result<Sight, StoreError> {
    match glimpse(row) {
        Ok(glimpse) => Ok(Sight::Seen(glimpse)),
        Err(StoreError::Unreadable(_)) => Ok(Sight::Unreadable),
        Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_))) => Err(error),
    }
}

fn glimpse(row: &QueryResult) -> Result<Glimpse, StoreError> {
    let number = |column: &str| row::read_number(row, column);
    let locator = row::text(row, "locator")?;
    Ok(Glimpse {
        locator: locator.parse().map_err(|error| row::unreadable("locator", error))?,
        user: row::optional_text(row, "user_name")?,
        owner: row::read_owner(row)?,
        lease_ms: lease_ms(row)?,
        epoch: number("epoch")?,
        version: number("version")?,
        created_ms: number("created_ms")?,
        last_access_ms: number("last_access_ms")?,
        absolute_ms: number("absolute_ms")?,
        idle_ms: number("idle_ms")?,
        bytes: number("bytes")?,
    })
}

/// For how long the lease of the owner lasts; 0 when it has none.
fn lease_ms(row: &QueryResult) -> Result<u64, StoreError> {
    let until: Option<i64> = row.try_get("", "lease_ms").map_err(DatabaseError::from)?;
    let now_ms = row::read_number(row, "now_ms")?;
    Ok(until.map_or(0, i64::cast_unsigned).saturating_sub(now_ms))
}

fn no_row() -> DbErr {
    DbErr::RecordNotFound("a statement that gives a row gave none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_range_of_ids_is_a_letter_behind_all_digits() {
        let end = behind("00ff");
        assert_eq!(end, "00ffg");
        let id = Locator::from_bytes([9; 16]).public_id();
        assert!(id.bytes().all(|digit| digit.is_ascii_alphanumeric() && digit < b'g'));
        assert!(id < behind(&id) && id < behind(&id[..8]));
    }
}
