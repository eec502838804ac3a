//! Checks of the database: whether it answers and keeps what it is given, how it is set, and whether there is room.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, QueryResult, Value};
use tokio::time::Instant;

use super::redis::{is_loopback, offset};
use super::{Check, Outcome, Patient};
use crate::database::{Backend, Database, DatabaseError};
use crate::error::chain;
use crate::problems::database_offset;

/// A round trip that takes longer is felt by every request that writes.
const SLOW: Duration = Duration::from_millis(50);
/// The oldest PostgreSQL that is maintained.
const MAINTAINED: i64 = 14;
/// From so much of the connections of the server in use on, an operator should know; per cent.
const MUCH: i64 = 85;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "database_reachable",
        title: "The database answers",
        fix: "start it, or mend what is between: address, firewall, password, pg_hba.conf",
        run: |patient| Box::pin(reachable(patient)),
    },
    Check {
        code: "database_version",
        title: "Version of the database",
        fix: "upgrade PostgreSQL to a version that is still maintained",
        run: |patient| Box::pin(version(patient)),
    },
    Check {
        code: "database_migrations",
        title: "Tables are up to date",
        fix: "start all nodes with the newest program, with UNDERSTUDY_DATABASE_MIGRATE=auto on one of them",
        run: |patient| Box::pin(migrations(patient)),
    },
    Check {
        code: "database_write",
        title: "The database takes and gives back",
        fix: "the text says what it refuses: free space on its disk, let it be a primary, or give the user the right",
        run: |patient| Box::pin(write(patient)),
    },
    Check {
        code: "database_settings",
        title: "Settings of the database",
        fix: "set what the text names back to its default",
        run: |patient| Box::pin(settings(patient)),
    },
    Check {
        code: "database_connections",
        title: "Room for the connections of all nodes",
        fix: "lower UNDERSTUDY_DATABASE_POOL_MAX, or raise max_connections of the server",
        run: |patient| Box::pin(connections(patient)),
    },
    Check {
        code: "database_pool",
        title: "Connections of this node",
        fix: "raise UNDERSTUDY_DATABASE_POOL_MAX, or look which requests hold a connection for long",
        run: |patient| Box::pin(std::future::ready(pool(patient.node().database.pool_use()))),
    },
    Check {
        code: "database_tls",
        title: "Encryption to the database",
        fix: "add sslmode=verify-full to UNDERSTUDY_DATABASE_URL, and sslrootcert if its authority is your own",
        run: |patient| Box::pin(encryption(patient)),
    },
    Check {
        code: "database_clock",
        title: "Clock against the database",
        fix: "let a time server (chrony, systemd-timesyncd) keep the clocks of all machines",
        run: |patient| Box::pin(clock(patient)),
    },
];

const SQLITE: &str = "the embedded database is part of this process";

fn failed(error: &DatabaseError) -> Outcome {
    Outcome::critical(chain(error))
}

async fn reachable(patient: &Patient) -> Outcome {
    let begun = Instant::now();
    let answer = Box::pin(patient.node().database.ping(Duration::from_secs(3))).await;
    let took = begun.elapsed();
    let took_ms = took.as_secs_f64() * 1_000.0;
    match answer {
        Err(error) => failed(&error),
        Ok(()) if took > SLOW => {
            Outcome::warning(format!("it answers, but only after {took_ms:.1} ms"))
                .fix("look at its load and at the network: every write waits so long")
        }
        Ok(()) => Outcome::ok(format!("an answer after {took_ms:.1} ms")),
    }
}

async fn version(patient: &Patient) -> Outcome {
    let database = &patient.node().database;
    let sql = match database.backend() {
        Backend::Sqlite => "SELECT sqlite_version() AS version, 0 AS number",
        Backend::Postgres => {
            "SELECT current_setting('server_version') AS version, \
             current_setting('server_version_num')::bigint / 10000 AS number"
        }
    };
    let read = one(database, sql, |row| Ok((row.try_get("", "version")?, number(row)?)));
    let (version, major): (String, i64) = match read.await {
        Ok(read) => read,
        Err(error) => return failed(&error),
    };
    match database.backend() {
        Backend::Sqlite => Outcome::ok(format!("SQLite {version}, {SQLITE}")),
        Backend::Postgres if major < MAINTAINED => {
            Outcome::warning(format!("PostgreSQL {version} works, but is not maintained any more"))
        }
        Backend::Postgres => Outcome::ok(format!("PostgreSQL {version}")),
    }
}

/// SQLite has one kind of whole number; what it is told to be is only a wish.
fn number(row: &QueryResult) -> Result<i64, sea_orm::DbErr> {
    row.try_get::<i64>("", "number").or_else(|_| row.try_get::<i32>("", "number").map(i64::from))
}

async fn migrations(patient: &Patient) -> Outcome {
    let database = &patient.node().database;
    match database.compare_migrations(&patient.practice.migrations).await {
        Err(error) => failed(&error),
        Ok((missing, _)) if !missing.is_empty() => {
            Outcome::critical(format!("missing: {}", missing.join(", ")))
        }
        Ok((_, unknown)) if !unknown.is_empty() => Outcome::critical(format!(
            "a newer program has changed the tables, which this one does not know: {}",
            unknown.join(", ")
        )),
        Ok(_) => Outcome::ok("all migrations are in, and no other"),
    }
}

/// Writes, reads and deletes a row of its own.
async fn write(patient: &Patient) -> Outcome {
    let node = patient.node();
    let name = format!("probe.{}", node.node_id.name().as_str());
    let word = format!("{:016x}", rand::random::<u64>());
    match probe(&node.database, &name, &word).await {
        Err(error) => failed(&error),
        Ok(read) if read == word => Outcome::ok("a row was written, read and deleted"),
        Ok(_) => Outcome::critical("what was read is not what was written"),
    }
}

async fn probe(database: &Database, name: &str, word: &str) -> Result<String, DatabaseError> {
    let write = "INSERT INTO us_meta (name, value) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    execute(database, write, &[name, word]).await?;
    let backend = database.backend();
    let read = backend.statement("SELECT value FROM us_meta WHERE name = $1", [name.into()]);
    let read = database.read(move |on| {
        let read = read.clone();
        Box::pin(async move {
            let row = on.query_one_raw(read).await?;
            row.map_or_else(|| Ok(String::new()), |row| row.try_get("", "value"))
        })
    });
    let read = read.await?;
    execute(database, "DELETE FROM us_meta WHERE name = $1", &[name]).await?;
    Ok(read)
}

async fn execute(database: &Database, sql: &str, texts: &[&str]) -> Result<(), DatabaseError> {
    let values: Vec<Value> = texts.iter().map(|text| (*text).into()).collect();
    let statement = database.backend().statement(sql, values);
    let step = database.step(move |on| {
        let statement = statement.clone();
        Box::pin(async move { on.execute_raw(statement).await.map(drop) })
    });
    step.await
}

async fn settings(patient: &Patient) -> Outcome {
    let database = &patient.node().database;
    if database.backend() == Backend::Sqlite {
        return Outcome::ok(SQLITE);
    }
    let sql = "SELECT current_setting('fsync') AS fsync, \
               current_setting('full_page_writes') AS pages, \
               current_setting('synchronous_commit') AS commits, \
               current_setting('default_transaction_isolation') AS isolation, \
               current_setting('idle_in_transaction_session_timeout') AS idle";
    let texts = |row: &QueryResult| {
        let text = |name: &str| row.try_get::<String>("", name);
        Ok([text("fsync")?, text("pages")?, text("commits")?, text("isolation")?, text("idle")?])
    };
    match one(database, sql, texts).await {
        Err(error) => failed(&error),
        Ok(found) => judge_settings(&found.each_ref().map(String::as_str)),
    }
}

fn judge_settings([fsync, pages, commits, isolation, idle]: &[&str; 5]) -> Outcome {
    let mut found = Outcome::ok("what was acknowledged survives a crash of the server");
    let mut worse = |wrong: bool, outcome: Outcome| {
        if wrong {
            found = std::mem::replace(&mut found, Outcome::ok("")).or_worse(outcome);
        }
    };
    worse(
        *fsync == "off",
        Outcome::critical("fsync is off: a crash of its machine can destroy the whole database"),
    );
    worse(
        *pages == "off",
        Outcome::warning("full_page_writes is off: a crash of its machine can leave torn pages"),
    );
    worse(
        *commits == "off",
        Outcome::warning(
            "synchronous_commit is off: what was acknowledged last is lost in a crash",
        ),
    );
    worse(
        *isolation != "read committed",
        Outcome::warning(format!(
            "default_transaction_isolation is {isolation}: transactions fail that need not"
        )),
    );
    worse(
        *idle == "0",
        Outcome::warning(
            "idle_in_transaction_session_timeout does not hold on this connection: a node that stands still could \
             keep rows locked",
        )
        .fix("give each connection a session of its own; for PgBouncer, pool_mode=session"),
    );
    found
}

async fn connections(patient: &Patient) -> Outcome {
    let node = patient.node();
    if node.database.backend() == Backend::Sqlite {
        return Outcome::ok(SQLITE);
    }
    let nodes = node.membership.live().len();
    match node.database.findings(nodes).await {
        Err(error) => return failed(&error),
        Ok(findings) => {
            if let Some(finding) = findings.into_iter().next() {
                return Outcome::warning(finding.text).fix(finding.fix);
            }
        }
    }
    let sql = "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, \
               current_setting('max_connections')::bigint AS most";
    let read = |row: &QueryResult| Ok((row.try_get("", "used")?, row.try_get("", "most")?));
    match one::<(i64, i64)>(&node.database, sql, read).await {
        Err(error) => failed(&error),
        Ok((used, most)) => {
            let text = format!(
                "{used} of {most} are in use, and all {nodes} nodes at their most have room"
            );
            if used * 100 >= most * MUCH {
                return Outcome::warning(format!("{used} of {most} are in use, by whomever"))
                    .fix("look in pg_stat_activity who has them, or raise max_connections");
            }
            Outcome::ok(text)
        }
    }
}

fn pool((open, idle, most): (u32, u32, u32)) -> Outcome {
    let used = open.saturating_sub(idle);
    let text = format!("{used} of {most} are at work, {idle} more are open");
    if used >= most {
        return Outcome::warning(format!("all {most} are at work, so others wait for one"));
    }
    Outcome::ok(text)
}

async fn encryption(patient: &Patient) -> Outcome {
    let database = &patient.node().database;
    let Some((host, verified)) = database.server() else { return Outcome::ok(SQLITE) };
    let sql =
        "SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS ssl";
    match one::<bool>(database, sql, |row| row.try_get("", "ssl")).await {
        Err(error) => failed(&error),
        Ok(ssl) => judge_encryption(&host, ssl, verified),
    }
}

fn judge_encryption(host: &str, ssl: bool, verified: bool) -> Outcome {
    match (ssl, verified) {
        (true, true) => Outcome::ok("TLS, with the server's certificate verified"),
        (true, false) if is_loopback(host) => Outcome::ok("TLS within this machine"),
        (true, false) => Outcome::warning(format!(
            "TLS to {host}, but its certificate is not verified: somebody between could read and change everything"
        )),
        (false, _) if is_loopback(host) => {
            Outcome::ok("no TLS, but it does not leave this machine")
        }
        (false, _) => Outcome::warning(format!("no TLS to {host}")),
    }
}

async fn clock(patient: &Patient) -> Outcome {
    let node = patient.node();
    if node.database.backend() == Backend::Sqlite {
        return Outcome::skipped(SQLITE);
    }
    match database_offset(node).await {
        Err(error) => failed(&error),
        Ok((ahead_ms, doubt_ms)) => offset(ahead_ms, doubt_ms),
    }
}

/// Reads one row.
async fn one<T: Send + 'static>(
    database: &Database,
    sql: &str,
    read: fn(&QueryResult) -> Result<T, sea_orm::DbErr>,
) -> Result<T, DatabaseError> {
    let statement = database.backend().statement(sql, []);
    let work = database.read(move |on| {
        let statement = statement.clone();
        Box::pin(async move {
            let row = on.query_one_raw(statement).await?;
            let nothing = || sea_orm::DbErr::RecordNotFound("the answer has no row".to_owned());
            read(&row.ok_or_else(nothing)?)
        })
    });
    work.await
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Critical, Ok as Good, Warning};
    use super::*;

    #[test]
    fn h7_settings_that_lose_data_are_found() {
        let good = ["on", "on", "on", "read committed", "2s"];
        assert_eq!(judge_settings(&good).verdict, Good);
        for (place, value, expected) in [
            (0, "off", Critical),
            (1, "off", Warning),
            (2, "off", Warning),
            (2, "local", Good),
            (3, "serializable", Warning),
            (4, "0", Warning),
        ] {
            let mut bad = good;
            bad[place] = value;
            assert_eq!(judge_settings(&bad).verdict, expected, "{bad:?}");
        }
        assert_eq!(
            judge_settings(&["off", "off", "off", "read committed", "2s"]).verdict,
            Critical
        );
    }

    #[test]
    fn h7_encryption_is_wanted_where_it_leaves_the_machine() {
        for (host, ssl, verified, expected) in [
            ("127.0.0.1", false, false, Good),
            ("/run/postgresql", false, false, Good),
            ("db", false, false, Warning),
            ("db", true, false, Warning),
            ("db", true, true, Good),
        ] {
            assert_eq!(judge_encryption(host, ssl, verified).verdict, expected, "{host} {ssl}");
        }
    }

    #[test]
    fn h7_a_pool_with_nothing_left_is_found() {
        assert_eq!(pool((20, 1, 20)).verdict, Good);
        assert_eq!(pool((20, 0, 20)).verdict, Warning);
        assert_eq!(pool((3, 0, 20)).verdict, Good);
    }
}
