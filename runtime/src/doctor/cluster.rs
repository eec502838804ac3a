//! Checks of the cluster around a node: whether messages arrive, and whether the nodes go together.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Check, Outcome, Patient};
use crate::broadcast::Broadcast;
use crate::bus::BusRequest;
use crate::finding::{Finding, Severity};
use crate::problems::options::differences;
use crate::service::NodeContext;

/// How long a message may be on its way.
const LIMIT: Duration = Duration::from_secs(1);
/// One that takes longer is felt by every request that is passed on.
const SLOW: Duration = Duration::from_millis(250);

/// Asks a node whether it hears.
#[derive(Debug, Serialize, Deserialize)]
struct Ping {}

impl BusRequest for Ping {
    const NAME: &'static str = "doctor.ping";
    type Reply = bool;
}

/// Answers the doctors of other nodes.
pub(super) fn listen(node: &NodeContext) {
    node.bus.handle(|_from, Ping {}| std::future::ready(true));
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "bus_self",
        title: "The node hears messages",
        fix: "let the Redis user subscribe to and publish on us:*, and look at client-output-buffer-limit pubsub",
        run: |patient| Box::pin(hears_itself(patient)),
    },
    Check {
        code: "bus_nodes",
        title: "Other nodes answer",
        fix: "look at the nodes that are named: stopped, overloaded, or cut off from Redis",
        run: |patient| Box::pin(others_answer(patient)),
    },
    Check {
        code: "leases",
        title: "The node holds its leases",
        fix: "the text says why they cannot be renewed; without them the node owns no session",
        run: |patient| Box::pin(std::future::ready(leases(patient.node()))),
    },
    Check {
        code: "config_drift",
        title: "Nodes have the same options",
        fix: "give all nodes the same options and restart those that differ; GET /v1/config/drift shows the values",
        run: |patient| Box::pin(drift(patient)),
    },
    Check {
        code: "version_skew",
        title: "Nodes have the same version",
        fix: "finish the upgrade: restart the nodes of the older version with the newer one",
        run: |patient| Box::pin(known(patient, &["version_skew"], "all nodes have the same")),
    },
    Check {
        code: "session_keys",
        title: "Nodes know each other's session keys",
        fix: "give all nodes the same UNDERSTUDY_SESSION_SECRET and restart those that differ",
        run: |patient| {
            Box::pin(known(patient, &["wrong_secret"], "each has a key in common with each"))
        },
    },
    Check {
        code: "refused_nodes",
        title: "No process was refused",
        fix: "give every node a name of its own and the options of the others",
        run: |patient| {
            let codes: &[&str] = &["duplicate_node", "refused_node"];
            Box::pin(known(patient, codes, "nobody within ten minutes"))
        },
    },
    Check {
        code: "lost_nodes",
        title: "No node fell silent",
        fix: "look why the node died or cannot reach Redis, and start it again",
        run: |patient| Box::pin(known(patient, &["node_lost"], "nobody within a day")),
    },
    Check {
        code: "leader",
        title: "Somebody leads",
        fix: "see leader.show for why nobody leads, and let at least one ready node be eligible",
        run: |patient| {
            let codes: &[&str] = &["no_leader", "leader_loop"];
            Box::pin(known(patient, codes, "somebody leads, and the lead did not go round"))
        },
    },
    Check {
        code: "time_zones",
        title: "Time zone data",
        fix: "run the same version on all nodes, and name a zone of the IANA list in UNDERSTUDY_JOBS_TIMEZONE",
        run: |patient| Box::pin(std::future::ready(time_zones(patient))),
    },
];

const ALONE: &str = "the node is alone";

async fn hears_itself(patient: &Patient) -> Outcome {
    let node = patient.node();
    if !node.config.cluster.enabled {
        return Outcome::skipped(ALONE);
    }
    match node.bus.echo(LIMIT * 2).await {
        Some(took) => Outcome::ok(format!("its own word after {} ms", took.as_millis())),
        None => Outcome::critical("it does not hear itself, so no other node is heard either"),
    }
}

async fn others_answer(patient: &Patient) -> Outcome {
    let node = patient.node();
    let others: Vec<_> =
        node.membership.live().into_iter().filter(|other| *other != node.node_id).collect();
    if others.is_empty() {
        return Outcome::skipped("there is no other living node");
    }
    let asked = others.iter().map(async |other| {
        let begun = Instant::now();
        let answer = node.bus.request(other, &Ping {}, LIMIT).await;
        (other.name().as_str(), answer.is_ok(), begun.elapsed())
    });
    let answers = join_all(asked).await;
    let silent: Vec<&str> = answers.iter().filter(|it| !it.1).map(|it| it.0).collect();
    if !silent.is_empty() {
        return Outcome::critical(format!("no answer from {}", silent.join(", ")));
    }
    let slowest = answers.iter().map(|it| it.2).max().unwrap_or_default();
    let text = format!("all {} answer, the slowest after {} ms", others.len(), slowest.as_millis());
    if slowest > SLOW { Outcome::warning(text) } else { Outcome::ok(text) }
}

fn leases(node: &NodeContext) -> Outcome {
    if node.lease.board().all_held(node.clock.now()) {
        return Outcome::ok("all of them");
    }
    let why = node.lease.trouble().map(|trouble| crate::error::chain(trouble.as_ref()));
    Outcome::critical(
        why.unwrap_or_else(|| "they have run out, and are not renewed yet".to_owned()),
    )
}

async fn drift(patient: &Patient) -> Outcome {
    let survey = patient.practice.options.survey().await;
    let differing = differences(&survey.by_node);
    if !differing.is_empty() {
        let names: Vec<&str> = differing.iter().map(|it| it.option.as_str()).collect();
        return Outcome::warning(format!("these differ: {}", names.join(", ")));
    }
    let text = format!("{} nodes have the same", survey.by_node.len());
    if survey.unreachable.is_empty() {
        return Outcome::ok(text);
    }
    let silent = survey.unreachable.join(", ");
    Outcome::warning(format!("{text}, but no answer from {silent}"))
        .fix("look at the nodes that are named, and examine again")
}

/// Looks among the problems that this node has gathered within the last second, and those that its services tell now.
async fn known(patient: &Patient, codes: &[&str], otherwise: &str) -> Outcome {
    let gathered = patient.practice.problems.here();
    let gathered = gathered.iter().map(|problem| problem.finding.clone());
    let told = patient.practice.services.iter().flat_map(|service| service.findings());
    let of_code = gathered.chain(told).filter(|it| codes.contains(&it.code.as_ref()));
    let outcome = of_code.map(outcome).reduce(Outcome::or_worse);
    outcome.unwrap_or_else(|| Outcome::ok(otherwise))
}

pub(super) fn outcome(finding: Finding) -> Outcome {
    let outcome = match finding.severity {
        Severity::Info => Outcome::ok(finding.text),
        Severity::Warning => Outcome::warning(finding.text),
        Severity::Critical => Outcome::critical(finding.text),
    };
    outcome.fix(finding.fix)
}

fn time_zones(patient: &Patient) -> Outcome {
    let zone = &patient.node().config.jobs.time_zone;
    if jiff::tz::TimeZone::get(zone).is_err() {
        return Outcome::critical(format!("`{zone}` is not known"));
    }
    let told = patient.practice.services.iter().flat_map(|service| service.findings());
    let differing = told.filter(|finding| finding.code == "time_zone_data_differ").map(outcome);
    let known = || Outcome::ok(format!("`{zone}` is known, and all nodes have the same data"));
    differing.reduce(Outcome::or_worse).unwrap_or_else(known)
}

/// Tells all living nodes that the doctor will come with this word.
pub(super) async fn announce(node: &NodeContext, word: &str) -> usize {
    let message = super::probes::ExpectProbe { word: word.to_owned() };
    let told = Broadcast::of(node).within(LIMIT).ask(&message).await;
    told.ok().filter(|(_, good)| **good).count()
}
