//! Jobs that run on every node: a node makes itself a cursor for each it has not met before, due from now on.

use futures_util::FutureExt as _;
use sea_orm::DbErr;

use super::super::{Store, Tx};
use super::{Definition, name, spec_of};
use crate::schedule::{Timetable, ZoneName};

struct Meet {
    scope: String,
    zone: ZoneName,
}

impl Store {
    /// Makes the cursors of jobs that run on every node and that this node has not met before.
    pub(crate) async fn meet_jobs(&self, scope: &str) -> super::super::Result<u64> {
        let missing = "SELECT count(*) AS missing FROM us_job j WHERE placement = 'every' AND NOT EXISTS \
                       (SELECT 1 FROM us_job_cursor c WHERE c.job = j.name AND c.scope = $1)";
        let row = self.one(missing.to_owned(), vec![scope.into()]).await?;
        if super::super::required(row)?.try_get::<i64>("", "missing")? == 0 {
            return Ok(0);
        }
        let meet = Meet { scope: scope.to_owned(), zone: self.zone().clone() };
        self.transaction(meet, |tx, meet| async move { meet_jobs(tx, &meet).await }.boxed()).await
    }
}

async fn meet_jobs(tx: &Tx<'_>, meet: &Meet) -> Result<u64, DbErr> {
    let now_ms = tx.now_ms().await?;
    // Locked, so that a change of the job comes before, or finds the cursor.
    let sql = format!(
        "SELECT name, spec, revision FROM us_job j WHERE placement = 'every' AND NOT EXISTS \
         (SELECT 1 FROM us_job_cursor c WHERE c.job = j.name AND c.scope = $1) ORDER BY name{}",
        tx.backend.for_share()
    );
    let mut made = 0;
    for row in tx.all(&sql, vec![meet.scope.clone().into()]).await? {
        let (job, spec): (String, String) = (row.try_get("", "name")?, row.try_get("", "spec")?);
        let (job, spec) = (name(&job)?, spec_of(&spec)?);
        let Ok(timetable) = Timetable::parse(&spec.schedule, &meet.zone) else { continue };
        let revision: i64 = row.try_get("", "revision")?;
        let definition = Definition { spec, timetable, revision, enabled: true, paused: None };
        let values = vec![
            job.as_str().into(),
            meet.scope.clone().into(),
            now_ms.into(),
            definition.next_ms(now_ms, now_ms).into(),
            revision.into(),
        ];
        let sql = "INSERT INTO us_job_cursor (job, scope, last_fire_ms, next_fire_ms, revision) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (job, scope) DO NOTHING";
        made += tx.execute(sql, values).await?;
    }
    Ok(made)
}
