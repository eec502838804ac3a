//! Listens to other programs, where a table of theirs has a trigger: as soon as one of their transactions is committed, the relay
//! looks. It is only to be quick. Whatever was not heard, the relay finds within a second; if it never ran at all, values would be
//! as old as they live; no node stops for it.
//!
//! It holds a connection of its own only while there is such a trigger.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::Outbox;
use crate::cache::Caches;
use crate::clock::BootInstant;
use crate::database::{Backend, Database, DatabaseError, Listener};
use crate::error::chain;
use crate::supervise::{Backoff, Stopped};

/// The channel that the trigger tells on; `runtime_0006_cache_outbox` has it too.
const CHANNEL: &str = "understudy_cache";
/// How often it is looked whether there is a trigger, and whether the connection is still there.
const CHECK: Duration = Duration::from_secs(5);

/// A connection that lived for so long was one: the next one is made at once when it is lost.
const LIVED: Duration = Duration::from_secs(10);

/// Whether a table has a trigger that calls the function of this schema.
const BRIDGED: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger AS t \
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
    WHERE p.proname = 'understudy_cache_changed' AND n.nspname = current_schema() \
    AND NOT t.tgisinternal AND t.tgenabled <> 'D') AS is_bridged";

/// Listens for as long as the node runs; ends at once on SQLite, where no other program writes.
pub(super) async fn listen(outbox: &Outbox, database: &Database, caches: &Caches) -> Stopped {
    if database.backend() == Backend::Sqlite {
        return Stopped::Drained;
    }
    let (mut pauses, mut bridged) = (Pauses::default(), false);
    loop {
        match is_bridged(database).await {
            Ok(found) => bridged = found,
            // Then it is as it was.
            Err(error) => debug!(%error, "whether other programs tell of their changes is unknown"),
        }
        if !bridged {
            outbox.needs_nobody();
            sleep(CHECK).await;
            continue;
        }
        outbox.is_deaf(caches.inner.clock.now());
        let begun = Instant::now();
        let lived = match database.listen(CHANNEL).await {
            Ok(Some(listener)) => {
                match hear(outbox, database, listener).await {
                    Ended::Lost => outbox.is_deaf(caches.inner.clock.now()),
                    Ended::Needless => outbox.needs_nobody(),
                }
                begun.elapsed()
            }
            Ok(None) => return Stopped::Drained,
            Err(error) => {
                debug!(error = chain(&error), "nobody hears what other programs change");
                Duration::ZERO
            }
        };
        sleep(pauses.after(lived)).await;
    }
}

/// How long nobody tries to connect.
#[derive(Default)]
struct Pauses {
    backoff: Backoff,
}

impl Pauses {
    /// Says how long to wait after a connection that lived for so long. One that is lost at once, since a pooler ends it say, is no
    /// success: it would be made again ten times a second on each node.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= LIVED {
            self.backoff.reset();
        }
        self.backoff.pause()
    }
}

/// Why nobody hears any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The connection is lost.
    Lost,
    /// There is no trigger any more.
    Needless,
}

/// Hears until the connection is lost, or there is no trigger any more.
async fn hear(outbox: &Outbox, database: &Database, mut listener: Listener) -> Ended {
    outbox.hears();
    info!("what other programs change is heard of");
    // What was told before is found by looking.
    outbox.wake.notify_one();
    loop {
        let lost = match timeout(CHECK, listener.heard()).await {
            Ok(Ok(())) => {
                outbox.wake.notify_one();
                continue;
            }
            Ok(Err(error)) => error,
            Err(_quiet) => match listener.ping().await {
                Ok(()) => {
                    let bridged = is_bridged(database).await;
                    if matches!(bridged, Ok(false)) {
                        return Ended::Needless;
                    }
                    continue;
                }
                Err(error) => error,
            },
        };
        info!(error = chain(&lost), "what other programs change is looked for instead of heard of");
        return Ended::Lost;
    }
}

async fn is_bridged(database: &Database) -> Result<bool, DatabaseError> {
    let query = database.backend().statement(BRIDGED, []);
    let found = database.read(move |on| {
        let query = query.clone();
        Box::pin(async move { on.query_one_raw(query).await })
    });
    let Some(row) = found.await? else { return Ok(false) };
    Ok(row.try_get("", "is_bridged")?)
}

impl Outbox {
    /// No table has a trigger.
    fn needs_nobody(&self) {
        self.deaf.store(0, Ordering::Relaxed);
        metrics::gauge!("understudy_cache_listening").set(0.0);
    }

    /// One has, and nobody listens.
    fn is_deaf(&self, now: BootInstant) {
        Self::since(&self.deaf, now);
        metrics::gauge!("understudy_cache_listening").set(0.0);
    }

    /// One has, and is listened to.
    fn hears(&self) {
        self.deaf.store(0, Ordering::Relaxed);
        metrics::gauge!("understudy_cache_listening").set(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_lost_at_once_is_made_more_and_more_seldom() {
        let mut pauses = Pauses::default();
        assert!(pauses.after(LIVED) <= Duration::from_millis(100));
        for _ in 0..8 {
            pauses.after(Duration::from_millis(50));
        }
        assert!(pauses.after(Duration::from_millis(50)) >= Duration::from_secs(2));
        assert!(pauses.after(LIVED) <= Duration::from_millis(100), "it had worked");
    }
}
