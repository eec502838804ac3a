//! All verbs that ask the admin port for something, in the order in which the help shows them.

mod actors;
mod caches;
mod cluster;
mod files;
mod jobs;
mod nodes;
mod runs;
mod sessions;

use super::verb::{Kind, Parameter, Verb};

/// All verbs.
pub(super) fn all() -> impl Iterator<Item = &'static Verb> {
    let groups = [
        nodes::VERBS,
        actors::VERBS,
        caches::VERBS,
        cluster::VERBS,
        jobs::VERBS,
        runs::VERBS,
        sessions::VERBS,
        files::VERBS,
    ];
    groups.into_iter().flatten()
}

/// Why something is done; everybody can read it later.
const WHY: Parameter =
    Parameter::body("why", Kind::Text("TEXT"), "Why, for those who read it later").required();
/// Which node answers.
const OF_NODE: Parameter = Parameter::query(
    "node",
    Kind::Text("NODE"),
    "Of this node; of the one that is asked if not said",
);
const LIMIT: Parameter = Parameter::query("limit", Kind::Count, "So many at most, 1 to 1000");
const SYSTEM: Parameter =
    Parameter::query("system", Kind::Flag, "Those of Understudy itself too, or instead");
const FORCE: Parameter =
    Parameter::query("force", Kind::Flag, "Even if no other node is left to do the work");
const FOR: Parameter =
    Parameter::body("for_s", Kind::Seconds, "Goes back by itself after this time").called("for");
const KEY: Parameter = Parameter::query(
    "Idempotency-Key",
    Kind::Text("KEY"),
    "Asked again with the same key, nothing is started twice",
)
.called("key")
.header();
const IF_REVISION: Parameter = Parameter::query(
    "If-Match",
    Kind::Text("REVISION"),
    "Only if it still has this revision; of a job also `*`: only if it is there",
)
.called("if-revision")
.header();
