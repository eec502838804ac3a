//! Tells the metrics once a second what is not counted where it happens: leases, connections, nodes, the process itself.
//!
//! It only looks; nothing waits for it, and a look costs no question to any server.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::actors::WINDOW;
use crate::clock::Clock;
use crate::http::requests::Requests;
use crate::lease::LeaseBoard;
use crate::membership::{Member, MemberState};
use crate::service::NodeContext;

mod actors;
mod caches;
mod process;

const EVERY: Duration = Duration::from_secs(1);
/// Every so many looks the process itself is looked at, for which files of the system are read.
const PROCESS_EVERY: u32 = 5;
/// A lease that nobody can take, as a node without a cluster has it, is longer than this.
const ENDLESS: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What is looked at.
#[derive(Clone)]
pub(super) struct Gauges {
    node: NodeContext,
    requests: Requests,
}

impl Gauges {
    pub(super) fn new(node: NodeContext, requests: Requests) -> Self {
        Self { node, requests }
    }

    /// Looks again and again; ends with the node.
    pub(super) async fn run(self) {
        metrics::gauge!("understudy_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        process::begin(self.node.membership.own().started_ms);
        let lag = metrics::histogram!("understudy_event_loop_lag_seconds", "loop" => "node");
        let mut window = Instant::now();
        for round in (0..PROCESS_EVERY).cycle() {
            if round == 0 {
                process::look();
            }
            self.look();
            if window.elapsed() >= WINDOW {
                self.node.actors.turn_over();
                window = Instant::now();
            }
            let began = Instant::now();
            sleep(EVERY).await;
            lag.record(began.elapsed().saturating_sub(EVERY));
        }
    }

    fn look(&self) {
        let node = &self.node;
        metrics::gauge!("understudy_http_requests_under_way").set(number(self.requests.count()));
        if let Some(remaining) = remaining(node.lease.board(), &*node.clock) {
            metrics::gauge!("understudy_lease_remaining_seconds").set(remaining.as_secs_f64());
        }
        if let Some(redis) = &node.redis {
            metrics::gauge!("understudy_redis_commands_under_way").set(number(redis.under_way()));
        }
        node.database.show_pool("main");
        node.actors.look().iter().for_each(actors::tell);
        node.caches.reports().iter().for_each(caches::tell);
        self.look_around();
    }

    /// What this node knows of the others.
    fn look_around(&self) {
        let members = self.node.membership.members();
        for (state, is_one) in STATES {
            let count = members.iter().filter(|member| is_one(member)).count();
            metrics::gauge!("understudy_nodes", "state" => state).set(number(count));
        }
        let own = self.node.membership.own();
        let others = members.iter().filter(|member| member.live && member.record.id != own.id);
        let differing = others.filter(|member| member.record.config_hash != own.config_hash);
        metrics::gauge!("understudy_nodes_config_differs").set(number(differing.count()));
    }
}

type IsOne = fn(&Member) -> bool;

/// In which states nodes are counted.
const STATES: [(&str, IsOne); 4] = [
    ("starting", |member| member.live && member.record.state == MemberState::Starting),
    ("ready", |member| member.live && member.record.state == MemberState::Ready),
    ("draining", |member| member.live && member.record.state == MemberState::Draining),
    ("lost", |member| !member.live),
];

/// Returns how long all leases hold unless they are renewed; none where they never end.
fn remaining(board: &LeaseBoard, clock: &dyn Clock) -> Option<Duration> {
    let now = clock.now();
    let each = board.buckets().map(|bucket| {
        board
            .valid_until(bucket)
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    });
    each.min().filter(|remaining| *remaining < ENDLESS)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::ids::Bucket;
    use crate::lease::LeaseStamp;

    #[test]
    fn h5_the_shortest_lease_is_told_and_an_endless_one_is_not() {
        let clock = ManualClock::new();
        let board = LeaseBoard::new(2);
        assert_eq!(remaining(&board, &clock), Some(Duration::ZERO), "none is held");
        let until = |ms| clock.now() + Duration::from_millis(ms);
        board.publish(Bucket(0), LeaseStamp::default(), until(900));
        board.publish(Bucket(1), LeaseStamp::default(), until(400));
        assert_eq!(remaining(&board, &clock), Some(Duration::from_millis(400)));
        clock.advance(Duration::from_secs(5));
        assert_eq!(remaining(&board, &clock), Some(Duration::ZERO), "it is over");
        assert_eq!(remaining(&LeaseBoard::always(), &clock), None);
    }
}
