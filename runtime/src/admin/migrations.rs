//! The migrations of the database: `GET /v1/migrations` lists them, `POST /v1/migrations/apply` has a node that waits
//! apply those that are missing.
//!
//! Both are answered while a node starts, since it is then that they are wanted. What is applied is applied by the start
//! of that node, under the lock that all nodes take: asked twice, or at two nodes, it comes to the same.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::asked::{Nothing, Query, body};
use super::note;
use super::people::refusal;
use super::resources::{AdminState, json, not_started};
use crate::database::{DatabaseError, MigrationRow, MigrationState, Migrations};
use crate::error::chain;
use crate::http::problem::Problem;

/// How long the answer waits for what is being applied.
const APPLIED_WITHIN: Duration = Duration::from_secs(15);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Answer = Result<HttpResponse, Problem>;

/// Adds the resources.
pub(super) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    app.app_data(Data::new(state.migrations.clone()))
        .route("/v1/migrations", web::get().to(list))
        .route("/v1/migrations/apply", web::post().to(apply));
}

#[derive(Serialize)]
struct MigrationsBody {
    /// The version of the program of the node that answers.
    program: &'static str,
    /// Whether that node waits until somebody applies what is missing.
    waits: bool,
    pending: usize,
    migrations: Vec<MigrationRow>,
}

async fn list(migrations: Data<Migrations>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let rows = rows(&migrations).await?;
    Ok(json(&MigrationsBody {
        program: Migrations::program(),
        waits: migrations.waits(),
        pending: pending(&rows).len(),
        migrations: rows,
    }))
}

#[derive(Serialize)]
struct AppliedBody {
    dry_run: bool,
    /// Those that were missing and no longer are.
    applied: Vec<String>,
    /// Those that are missing.
    pending: Vec<String>,
}

async fn apply(migrations: Data<Migrations>, request: HttpRequest, bytes: Bytes) -> Answer {
    let dry_run = Query::of(&request, &["dry_run"])?.flag("dry_run")?;
    let Nothing {} = body(&request, &bytes)?;
    let missing = pending(&rows(&migrations).await?);
    if dry_run || missing.is_empty() {
        return Ok(json(&AppliedBody { dry_run, applied: Vec::new(), pending: missing }));
    }
    if !migrations.waits() {
        let (status, code) = (StatusCode::CONFLICT, "not_waiting");
        let problem = Problem::new(status, code, "This node does not wait for migrations");
        return Err(problem.with_detail(
            "only a node that starts with UNDERSTUDY_DATABASE_MIGRATE=wait can be told to apply them",
        ));
    }
    note(&request, missing.join(", "));
    migrations.let_apply();
    let left = left_of(&missing, Instant::now() + APPLIED_WITHIN, async || migrations.list().await);
    let left = left.await;
    let status = if left.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let applied = missing.into_iter().filter(|name| !left.contains(name)).collect();
    let answer = AppliedBody { dry_run, applied, pending: left };
    Ok(HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(answer))
}

/// Waits until none are missing any more, but not for longer than until then; returns those that are. The word stands, so
/// that a database which does not answer meanwhile is no failure: the node applies them as soon as it can.
async fn left_of(
    missing: &[String],
    until: Instant,
    mut look: impl AsyncFnMut() -> Result<Option<Vec<MigrationRow>>, DatabaseError>,
) -> Vec<String> {
    let mut left = missing.to_vec();
    let mut fails = false;
    while !left.is_empty() && Instant::now() < until {
        sleep(LOOK_EVERY).await;
        match look().await {
            Ok(rows) => left = rows.map_or(left, |rows| pending(&rows)),
            Err(error) if !fails => {
                fails = true;
                warn!(
                    error = chain(&error),
                    "it cannot be seen whether the migrations are applied"
                );
            }
            Err(_) => {}
        }
    }
    left
}

async fn rows(migrations: &Migrations) -> Result<Vec<MigrationRow>, Problem> {
    migrations.list().await.map_err(refusal)?.ok_or_else(not_started)
}

fn pending(rows: &[MigrationRow]) -> Vec<String> {
    let pending = rows.iter().filter(|row| row.state == MigrationState::Pending);
    pending.map(|row| row.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: MigrationState) -> MigrationRow {
        MigrationRow { name: "a".to_owned(), state, applied_ms: None, program: None }
    }

    #[tokio::test]
    async fn h3_a_database_that_goes_away_while_migrations_are_applied_is_waited_for() {
        let missing = ["a".to_owned()];
        let until = Instant::now() + APPLIED_WITHIN;
        let mut looks = 0;
        let left = left_of(&missing, until, async || {
            looks += 1;
            match looks {
                1 | 2 => Err(DatabaseError::ReadOnly),
                3 => Ok(Some(vec![row(MigrationState::Pending)])),
                _ => Ok(Some(vec![row(MigrationState::Applied)])),
            }
        });
        assert!(left.await.is_empty());
        assert_eq!(looks, 4);
        let until = Instant::now() + LOOK_EVERY * 2;
        let left = left_of(&missing, until, async || Err(DatabaseError::ReadOnly)).await;
        assert_eq!(left, missing, "it is answered that they are still to come");
        assert!(Instant::now() >= until);
    }
}
