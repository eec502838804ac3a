//! Examines a node now: its servers, its surroundings, its options and its machine, and, if asked to, how it looks through
//! the balancer.
//!
//! Each check has a code, a title, a result in words, and one line that says what helps. All are made at the same time, each
//! within its own limit, so that a server that hangs costs the others nothing. Nothing is changed but probes of the
//! doctor's own, which he takes away again. `docs/problems.md` has all checks; a test compares it with [`titles`].

mod cluster;
mod database;
mod health;
mod machine;
mod options;
mod probes;
mod redis;
mod rights;
mod through;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::bus::BusRequest;
use crate::node::checks::Checks;
use crate::problems::Problems;
use crate::problems::options::Options;
use crate::service::{NodeContext, Service};

pub(crate) use probes::Probes;
pub(crate) use through::Url;

/// How long one check may take.
const LIMIT: Duration = Duration::from_secs(4);

/// What a check came to; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does not apply here.
    Skipped,
    /// All well.
    Ok,
    /// It works, but will not when something else goes wrong, or not as well as it could.
    Warning,
    /// Something does not work, or data are in danger.
    Critical,
}

/// One check with its result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checked {
    /// A stable name.
    pub code: Cow<'static, str>,
    /// What was looked at.
    pub title: Cow<'static, str>,
    /// How it is.
    pub result: Verdict,
    /// What was found.
    pub text: String,
    /// What helps, in one line; empty when nothing has to be done.
    pub fix: Cow<'static, str>,
    /// How long it took, ms.
    pub took_ms: u64,
}

/// What the doctor found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Examination {
    /// The name of the node that was examined.
    pub node: String,
    /// All checks, in a fixed order.
    pub checks: Vec<Checked>,
    /// The worst result of all.
    pub worst: Verdict,
}

/// Asks another node to examine itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Examine {
    pub(crate) through: Option<Url>,
}

impl BusRequest for Examine {
    const NAME: &'static str = "doctor.examine";
    type Reply = Examination;
}

/// Examines a node; a cheap clone.
#[derive(Clone)]
pub(crate) struct Doctor {
    practice: Arc<Practice>,
}

/// What the doctor looks at.
pub(crate) struct Practice {
    pub(crate) node: NodeContext,
    pub(crate) services: Vec<Arc<dyn Service>>,
    pub(crate) checks: Checks,
    pub(crate) options: Options,
    pub(crate) problems: Problems,
    pub(crate) probes: Probes,
    /// The names of the migrations of the services.
    pub(crate) migrations: Vec<String>,
    /// Held by the examination that is under way.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    verdict: Verdict,
    text: String,
    fix: Cow<'static, str>,
}

impl Outcome {
    fn ok(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, text: text.into(), fix: Cow::Borrowed("") }
    }

    fn skipped(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, text: text.into(), fix: Cow::Borrowed("") }
    }

    /// The check's own line says what helps.
    fn warning(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, text: text.into(), fix: Cow::Borrowed("") }
    }

    fn critical(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Critical, ..Self::warning(text) }
    }

    /// Says more exactly what helps.
    fn fix(self, fix: impl Into<Cow<'static, str>>) -> Self {
        Self { fix: fix.into(), ..self }
    }

    /// The worse of two; of two alike the first.
    fn or_worse(self, other: Self) -> Self {
        if other.verdict > self.verdict { other } else { self }
    }
}

/// A check: how it is called, what helps when it is not well, and how it is made.
struct Check {
    code: &'static str,
    title: &'static str,
    fix: &'static str,
    run: for<'a> fn(&'a Patient) -> BoxFuture<'a, Outcome>,
}

/// A node under examination.
struct Patient {
    practice: Arc<Practice>,
    /// The Redis servers, each with what it tells of itself.
    redis: Vec<redis::Server>,
}

impl Patient {
    fn node(&self) -> &NodeContext {
        &self.practice.node
    }
}

impl Doctor {
    /// Answers other nodes from now on.
    pub(crate) fn start(practice: Practice) -> Self {
        let doctor = Self { practice: Arc::new(practice) };
        let node = &doctor.practice.node;
        doctor.practice.probes.listen(node);
        cluster::listen(node);
        // A handle that keeps nothing alive: the bus belongs to the node.
        let practice = Arc::downgrade(&doctor.practice);
        node.bus.handle(move |_from, Examine { through }| {
            let practice = practice.upgrade();
            async move {
                match practice {
                    Some(practice) => Box::pin(Self { practice }.examine(through)).await,
                    None => Examination::of("", Vec::new()),
                }
            }
        });
        doctor
    }

    /// Examines the node this runs on, also through the balancer when its address is given.
    pub(crate) async fn examine(&self, through: Option<Url>) -> Examination {
        // One at a time: they write and read the same things, and would find each other's.
        let _turn = self.practice.turn.lock().await;
        let node = &self.practice.node;
        let redis = Box::pin(redis::servers(node)).await;
        let patient = Patient { practice: Arc::clone(&self.practice), redis };
        let own = join_all(all().map(|check| made(check, &patient)));
        let (mut checks, seen) = tokio::join!(own, Box::pin(through::look(node, through)));
        checks.extend(seen);
        Examination::of(node.node_id.name().as_str(), checks)
    }
}

impl Examination {
    fn of(node: &str, checks: Vec<Checked>) -> Self {
        let worst = checks.iter().map(|check| check.result).max();
        let worst = worst.unwrap_or(Verdict::Ok).max(Verdict::Ok);
        Self { node: node.to_owned(), checks, worst }
    }
}

/// All checks of a node, in the order in which they are shown.
fn all() -> impl Iterator<Item = &'static Check> {
    let parts = [
        redis::CHECKS,
        rights::CHECKS,
        database::CHECKS,
        cluster::CHECKS,
        health::CHECKS,
        options::CHECKS,
        machine::CHECKS,
    ];
    parts.into_iter().flatten()
}

/// Returns the code, the title and the general cure of each check, in the order in which they are shown.
#[must_use]
pub fn titles() -> Vec<(&'static str, &'static str, &'static str)> {
    let own = all().map(|check| (check.code, check.title, check.fix));
    own.chain(through::TITLES.iter().copied()).collect()
}

async fn made(check: &Check, patient: &Patient) -> Checked {
    let begun = Instant::now();
    let outcome = timeout(LIMIT, (check.run)(patient)).await.unwrap_or_else(|_elapsed| {
        Outcome::critical(format!("the check was not done within {} s", LIMIT.as_secs()))
    });
    checked((check.code, check.title, check.fix), outcome, begun)
}

fn checked(
    (code, title, fix): (&'static str, &'static str, &'static str),
    outcome: Outcome,
    begun: Instant,
) -> Checked {
    let fix = match outcome.verdict {
        Verdict::Ok | Verdict::Skipped => Cow::Borrowed(""),
        Verdict::Warning | Verdict::Critical if outcome.fix.is_empty() => Cow::Borrowed(fix),
        Verdict::Warning | Verdict::Critical => outcome.fix,
    };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Checked {
        code: code.into(),
        title: title.into(),
        result: outcome.verdict,
        text: outcome.text,
        fix,
        took_ms,
    }
}

/// Tells what was found of several, each under its name where there are more than one; the worst counts.
fn over<'a>(found: impl ExactSizeIterator<Item = (&'a str, Outcome)>) -> Outcome {
    let several = found.len() > 1;
    let each = found.map(|(name, outcome)| match several {
        true => Outcome { text: format!("{name}: {}", outcome.text), ..outcome },
        false => outcome,
    });
    each.reduce(Outcome::or_worse).unwrap_or_else(|| Outcome::skipped("there is none"))
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor").field("node", &self.practice.node.node_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h7_there_are_many_checks_each_with_a_name_of_its_own_and_a_cure() {
        let titles = titles();
        assert!(titles.len() >= 20, "{}", titles.len());
        let codes: std::collections::BTreeSet<_> = titles.iter().map(|(code, ..)| code).collect();
        assert_eq!(codes.len(), titles.len(), "a code stands twice");
        for (code, title, fix) in titles {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
            assert!(!title.is_empty() && !fix.is_empty() && !fix.contains('\n'), "{code}");
        }
    }

    #[test]
    fn h7_the_worst_result_counts_and_nothing_has_to_be_done_about_what_is_well() {
        let of = |verdicts: &[Outcome]| {
            let begun = Instant::now();
            let checks = verdicts.iter().map(|it| checked(("a", "A", "do it"), it.clone(), begun));
            Examination::of("n", checks.collect())
        };
        assert_eq!(of(&[]).worst, Verdict::Ok);
        assert_eq!(of(&[Outcome::skipped("")]).worst, Verdict::Ok);
        let bad = of(&[Outcome::ok(""), Outcome::warning("w"), Outcome::critical("c").fix("now")]);
        assert_eq!(bad.worst, Verdict::Critical);
        let fixes: Vec<&str> = bad.checks.iter().map(|check| check.fix.as_ref()).collect();
        assert_eq!(fixes, ["", "do it", "now"]);
    }

    #[test]
    fn of_several_servers_the_worst_is_told_by_name() {
        let found =
            [("a", Outcome::ok("x")), ("b", Outcome::warning("y")), ("c", Outcome::warning("z"))];
        assert_eq!(over(found.into_iter()).text, "b: y");
        assert_eq!(over([("a", Outcome::ok("x"))].into_iter()).text, "x");
        assert_eq!(over(std::iter::empty::<(&str, Outcome)>()).verdict, Verdict::Skipped);
    }
}
