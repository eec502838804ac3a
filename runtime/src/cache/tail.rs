//! Reads the log of a region, on each node: what was forgotten elsewhere goes out of memory here.
//!
//! It looks every [`EVERY`], and at once when another node says that there is news. Whatever is missing in the log, and whatever a
//! server may have forgotten, is made up for by forgetting everything. Only a look that read all there was moves the moment up
//! to which memory is trusted, and it moves it to where the look *began*.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::core::{BOUND, Core};
use super::shared::{Forgotten, News, Place, Shared};
use crate::redis::RedisError;
use crate::supervise::Stopped;

/// How often the log is looked at when nobody says that there is news.
const EVERY: Duration = Duration::from_millis(500);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(1);

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// All that there was.
    All,
    /// There is more.
    Part,
}

/// Reads on and on; begins by forgetting what is there.
pub(super) async fn follow(core: Arc<Core>) -> Stopped {
    let Some(shared) = &core.shared else { return Stopped::Drained };
    let (mut place, mut trusted) = (Place::default(), true);
    loop {
        match look(&core, shared, &mut place).await {
            Ok(Look::Part) => continue,
            Ok(Look::All) => {}
            Err(error) => debug!(cache.region = core.region.name(), %error, "no news of the cache"),
        }
        let fresh = core.is_fresh();
        if trusted != fresh {
            tell(&core, fresh);
            trusted = fresh;
        }
        let why = tokio::select! {
            () = core.wake.notified() => "told",
            () = core.told.notified() => {
                shared.tell();
                "own"
            }
            () = sleep(EVERY) => "time",
        };
        let region = core.region.name();
        metrics::counter!("understudy_cache_looks_total", "region" => region, "why" => why)
            .increment(1);
    }
}

/// Looks once.
pub(super) async fn look(
    core: &Core,
    shared: &Shared,
    place: &mut Place,
) -> Result<Look, RedisError> {
    let asked = core.now();
    match shared.news(place, LIMIT).await? {
        News::Anew(here) => {
            core.forget_all();
            *place = here;
        }
        News::Follow(entries, newest) => {
            for entry in entries {
                match entry {
                    Forgotten::One(key) => {
                        core.tally.forgotten.fetch_add(1, Ordering::Relaxed);
                        core.forget(&key);
                    }
                    Forgotten::Tagged(tag) => core.forget_tag(&tag),
                    Forgotten::All => core.forget_all(),
                }
                place.last += 1;
            }
            if place.last < newest {
                return Ok(Look::Part);
            }
        }
    }
    core.has_read(asked);
    Ok(Look::All)
}

fn tell(core: &Core, fresh: bool) {
    let (region, bound_ms) = (core.region.name(), BOUND.as_millis());
    if fresh {
        info!(cache.region = region, "changes of cached values are heard of again");
    } else {
        warn!(
            cache.region = region,
            bound_ms, "nothing is heard of changes: values are loaded instead of taken from memory"
        );
    }
}
