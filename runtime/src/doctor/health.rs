//! Checks of the node itself: whether it is ready, what its services and the application say, whether it stood still.

use super::cluster::outcome;
use super::{Check, Outcome, Patient};
use crate::node::Phase;
use crate::service::Health;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "ready",
        title: "The node is ready",
        fix: "each reason in the text names what is missing",
        run: |patient| Box::pin(std::future::ready(ready(patient))),
    },
    Check {
        code: "services",
        title: "Services",
        fix: "the text says what is missing; the log of the node says more",
        run: |patient| Box::pin(std::future::ready(services(patient))),
    },
    Check {
        code: "application",
        title: "Health checks of the application",
        fix: "the application brought this check; its own documentation says what helps",
        run: |patient| Box::pin(std::future::ready(application(patient))),
    },
    Check {
        code: "pauses",
        title: "The node did not stand still",
        fix: "look for memory that is swapped, a processor quota that is used up, or a machine that was suspended",
        run: |patient| Box::pin(std::future::ready(pauses(patient))),
    },
];

fn ready(patient: &Patient) -> Outcome {
    let lifecycle = &patient.node().lifecycle;
    if lifecycle.is_ready() {
        return Outcome::ok("it is");
    }
    let reasons = lifecycle.reasons();
    let reasons: Vec<String> =
        reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.detail)).collect();
    let text = format!("it is not: {}", reasons.join("; "));
    if lifecycle.phase() == Phase::Running {
        Outcome::critical(text)
    } else {
        Outcome::warning(text)
    }
}

fn services(patient: &Patient) -> Outcome {
    let mut worst = Outcome::ok(format!("all {} are well", patient.practice.services.len()));
    for service in &patient.practice.services {
        let name = service.name();
        let health = match service.health() {
            Health::Ready => continue,
            Health::Degraded(why) => Outcome::warning(format!("{name}: {why}")),
            Health::Failed(why) => Outcome::critical(format!("{name}: {why}")),
        };
        worst = worst.or_worse(health);
    }
    let services = patient.practice.services.iter().flat_map(|service| service.findings());
    let found = services.chain(patient.node().caches.findings());
    found.map(outcome).fold(worst, Outcome::or_worse)
}

fn application(patient: &Patient) -> Outcome {
    let results = patient.practice.checks.results();
    if results.is_empty() {
        return Outcome::skipped("it brings none");
    }
    let well = Outcome::ok(format!("all {} are well", results.len()));
    let bad = results.into_iter().filter_map(|(name, health)| match health {
        Health::Ready => None,
        Health::Degraded(why) => Some(Outcome::warning(format!("{name}: {why}"))),
        Health::Failed(why) => Some(Outcome::critical(format!("{name}: {why}"))),
    });
    bad.fold(well, Outcome::or_worse)
}

fn pauses(patient: &Patient) -> Outcome {
    let known = patient.practice.problems.here();
    let own = known.iter().filter(|problem| problem.finding.code == "node_paused");
    let worst = own.map(|problem| outcome(problem.finding.clone())).reduce(Outcome::or_worse);
    worst.unwrap_or_else(|| Outcome::ok("not within ten minutes"))
}
