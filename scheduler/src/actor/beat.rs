//! A sign of life of this node as a scheduler, and what it learns of the others and of operators with it.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{info, warn};
use understudy_runtime::clock::BootInstant;
use understudy_runtime::database::{Backend, DatabaseError};
use understudy_runtime::error::chain;

use super::Surroundings;
use super::round::Core;
use crate::run::RunState;
use crate::schedule::tzdb_version;
use crate::store::{SchedulerNode, Switches};

/// A wall clock that is further from the database's than this is reported.
const WALL_CLOCK_MS: i64 = 1_000;
/// A sign of life may take at least this long.
const SHORTEST_LIMIT: Duration = Duration::from_secs(2);
/// Terms that began within this time are counted.
const LATELY: Duration = Duration::from_secs(600);
/// Jobs that are due within this time must find a node that can start them.
const SOON: Duration = Duration::from_secs(3_600);
/// After so many signs of life that came to nothing a leader lets another lead.
const FAILURES: u32 = 2;

/// What a sign of life came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BeatReport {
    /// Whether there is something new to do at once.
    pub(crate) look: bool,
}

/// Tells and listens; never fails, since the next one follows.
pub(super) async fn beat(core: &Core) -> BeatReport {
    let before = core.tools.shared.surroundings.load_full();
    let began = core.tools.clock.boot();
    // A database that takes longer than the pause between two signs of life is as good as away.
    let limit = core.tools.config().alive.max(SHORTEST_LIMIT);
    let beaten = match tokio::time::timeout(limit, try_beat(core)).await {
        Ok(beaten) => beaten,
        Err(_) => Err(DatabaseError::TimedOut(limit)),
    };
    match beaten {
        Ok(mut now) => {
            if before.trouble.is_some() {
                info!("the scheduler reaches the database again");
            }
            let went_on = before.trouble.is_none() && before.reached_since.is_some();
            now.reached_since = if went_on { before.reached_since } else { Some(began) };
            now.last_good = Some(began);
            let look = before.maintenance != now.maintenance || before.nodes.is_empty();
            core.tools.shared.surroundings.store(std::sync::Arc::new(now));
            BeatReport { look }
        }
        Err(error) => {
            failed(core, &before, (began, &chain(&error)));
            BeatReport::default()
        }
    }
}

fn failed(core: &Core, before: &Surroundings, (began, error): (BootInstant, &str)) {
    let now = core.tools.clock.boot();
    // Since it last answered, not since somebody noticed.
    let since = before.last_good.unwrap_or(began);
    if before.trouble.is_none() {
        warn!(error, "the scheduler does not reach the database");
    }
    let away = now.saturating_duration_since(since);
    if away >= core.tools.config().alive * FAILURES {
        core.tools.leader.database_unreachable(away);
    }
    let mut surroundings = before.clone();
    surroundings.trouble = Some((since, error.to_owned()));
    surroundings.reached_since = None;
    core.tools.shared.surroundings.store(std::sync::Arc::new(surroundings));
}

async fn try_beat(core: &Core) -> Result<Surroundings, DatabaseError> {
    let tools = &core.tools;
    let (store, config) = (&tools.store, tools.config());
    let in_maintenance = store.in_maintenance().await?;
    let name = tools.node.node_id.name().as_str();
    let maintenance = in_maintenance.iter().any(|(node, _)| node == name);
    let node = SchedulerNode {
        node: tools.node.node_id.to_string(),
        seen_ms: 0,
        handlers: tools.registry.handler_names().map(str::to_owned).collect(),
        definitions: tools.definitions.load().as_ref().clone(),
        labels: tools.node.config.node.labels.clone(),
        tzdb: tzdb_version().to_owned(),
        takes_jobs: !maintenance && !core.is_closed() && tools.node.lifecycle.takes_work(),
        offset_ms: tools.clock.wall_offset_ms(),
    };
    let asked = tools.clock.boot();
    let now_ms = store.report_node(&node).await?;
    tools.clock.heard(asked, now_ms);
    store.meet_jobs(name).await?;
    let switches = store.switches().await?;
    obey(core, &switches, maintenance);
    core.serve_or_rest();
    let silent_ms = crate::plan::millis(config.alive) * 3;
    let nodes = store.nodes(silent_ms).await?;
    warn_of_differences(core, &nodes);
    let term = tools.leader.board().leading(tools.clock.boot());
    let mut unmet_jobs = BTreeMap::new();
    if let Some(term) = term {
        lead(core, term.epoch).await?;
        unmet_jobs = store.unmet_jobs(crate::plan::millis(SOON), &nodes).await?;
    }
    // On SQLite it has no pool of its own.
    if store.backend() == Backend::Postgres {
        store.database().show_pool("scheduler");
    }
    let terms = store.terms_within(crate::plan::millis(LATELY)).await?;
    let active = store.active_runs().await?;
    for state in [RunState::Queued, RunState::Running, RunState::Retrying] {
        let runs = active.iter().find(|(known, _)| *known == state).map_or(0, |(_, runs)| *runs);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is no bookkeeping")]
        metrics::gauge!("job_runs_active", "state" => state.as_str()).set(runs as f64);
    }
    let offset_ms = tools.clock.wall_offset_ms();
    let known = Surroundings { nodes, maintenance, offset_ms, ..Surroundings::default() };
    Ok(Surroundings { terms, unmet_jobs, ..known })
}

/// What only the leader does: shows that its term goes on, and clears away what would keep the jobs of Understudy
/// itself from running, which are those that clear away all else.
async fn lead(core: &Core, epoch: u64) -> Result<(), DatabaseError> {
    let store = &core.tools.store;
    if !store.see_term(epoch).await? {
        core.tools.leader.stale_epoch(epoch);
        return Ok(());
    }
    store.lose_system_runs(crate::plan::millis(core.tools.config().stale_after)).await.map(|_| ())
}

fn obey(core: &Core, switches: &Switches, maintenance: bool) {
    let status = core.tools.leader.status();
    if status.maintenance != maintenance {
        core.tools.leader.set_maintenance(maintenance);
    }
    if status.frozen != switches.is_frozen() {
        core.tools.leader.set_frozen(switches.is_frozen());
    }
}

/// Says once what would make due times differ between nodes, or confuse those who read them.
fn warn_of_differences(core: &Core, nodes: &[SchedulerNode]) {
    let before = core.tools.shared.surroundings.load();
    let offset = core.tools.clock.wall_offset_ms();
    if offset.abs() > WALL_CLOCK_MS && before.offset_ms.abs() <= WALL_CLOCK_MS {
        warn!(offset_ms = offset, "the clock of this node and that of the database differ");
    }
    let differs = |nodes: &[SchedulerNode]| nodes.iter().any(|node| node.tzdb != tzdb_version());
    if differs(nodes) && !differs(&before.nodes) {
        warn!(tzdb = tzdb_version(), "nodes have different time zone databases");
    }
}
