//! Verbs about the cluster as a whole: problems, settings, maintenance, who leads, locks, tokens, what was done.

use super::super::verb::{Kind, Manner, Parameter, Verb};
use super::super::view::View;
use super::super::views;
use super::{FOR, IF_REVISION, KEY, LIMIT, WHY};

const SETTING: Parameter = Parameter::path("name", "SETTING", "Name of the setting");
const ROLES: Kind = Kind::Word("ROLE", &["viewer", "support", "operator", "admin"]);
const MODES: Kind = Kind::Word("MODE", &["off", "read_only", "full"]);
const OUTCOMES: Kind = Kind::Word("OUTCOME", &["done", "refused", "failed"]);
const TEXT: Kind = Kind::Text("TEXT");
const UNFREEZE_WHY: Parameter = Parameter::body("why", TEXT, "Why, for those who read it later");

pub(super) const VERBS: &[Verb] = &[
    Verb::get(
        "problems.list",
        "problems",
        "/v1/problems",
        "Lists what is wrong in the cluster, with what to do",
    )
    .view(View::Custom(views::findings::problems)),
    Verb::get(
        "events.watch",
        "watch",
        "/v1/events",
        "Tells what changes in the cluster, as it does",
    )
    .manner(Manner::Events),
    Verb::get(
        "settings.list",
        "settings",
        "/v1/settings",
        "Lists what can be set while the cluster runs",
    )
    .view(View::Parts(views::cluster::SETTINGS)),
    Verb::put(
        "settings.set",
        "settings set",
        "/v1/settings/{name}",
        "Changes a setting on all nodes",
    )
    .with(&[
        SETTING,
        Parameter::body("value", Kind::Text("VALUE"), "What it is set to").positional(),
        WHY,
        FOR,
        IF_REVISION,
    ]),
    Verb::delete(
        "settings.reset",
        "settings reset",
        "/v1/settings/{name}",
        "Sets a setting back to its default",
    )
    .with(&[SETTING, IF_REVISION])
    .view(View::NothingOr("the setting has its default again")),
    Verb::get(
        "maintenance.show",
        "maintenance",
        "/v1/maintenance",
        "Shows whether users are kept out",
    )
    .view(View::Custom(views::cluster::maintenance)),
    Verb::put(
        "maintenance.set",
        "maintenance set",
        "/v1/maintenance",
        "Keeps users out, from all nodes or one, or lets them in again",
    )
    .with(&[
        Parameter::body(
            "mode",
            MODES,
            "Nobody is kept out, nothing can be changed, or nobody comes in",
        )
        .positional(),
        WHY,
        Parameter::body("message", TEXT, "What users are told"),
        Parameter::body("retry_after_s", Kind::Seconds, "When they are told to try again")
            .called("retry-after"),
        Parameter::body("node", Kind::Text("NODE"), "Only this node"),
        FOR,
        IF_REVISION,
    ])
    .asks_if(("mode", "full"), "Nobody comes in any more: all users are told to come back later.")
    .view(View::Custom(views::cluster::maintenance)),
    Verb::post(
        "maintenance.bypass",
        "maintenance bypass",
        "/v1/maintenance/bypass",
        "Makes a header with which a client gets in during maintenance",
    )
    .with(&[Parameter::body("for_s", Kind::Seconds, "How long it counts").called("for")]),
    Verb::get("leader.show", "leader show", "/v1/leader", "Shows which node leads")
        .view(View::Parts(views::cluster::LEADER)),
    Verb::get(
        "leader.history",
        "leader history",
        "/v1/leader/history",
        "Lists who led before, and why it ended",
    )
    .with(&[LIMIT])
    .view(View::Parts(views::cluster::TERMS)),
    Verb::post(
        "leader.step_down",
        "leader step-down",
        "/v1/leader/step-down",
        "Lets another node lead",
    )
    .with(&[Parameter::body(
        "hold_ms",
        Kind::Millis,
        "So long it does not lead again; one time to live of the lease if not said",
    )
    .called("hold")]),
    Verb::post(
        "leader.drill",
        "leader drill",
        "/v1/leader/drill",
        "Lets another node lead, as an exercise",
    ),
    Verb::post(
        "leader.freeze",
        "leader freeze",
        "/v1/leader/freeze",
        "Keeps the lead where it is, whatever the priorities say",
    )
    .with(&[WHY])
    .view(View::Parts(views::cluster::SWITCH)),
    Verb::post(
        "leader.unfreeze",
        "leader unfreeze",
        "/v1/leader/unfreeze",
        "Lets the lead move again",
    )
    .with(&[UNFREEZE_WHY])
    .view(View::Parts(views::cluster::SWITCH)),
    Verb::get("locks.list", "locks", "/v1/locks", "Lists the locks that are held in the cluster")
        .view(View::Parts(views::cluster::LOCKS)),
    Verb::delete(
        "locks.clear",
        "locks clear",
        "/v1/locks/{name*}",
        "Takes a lock away from its holder",
    )
    .with(&[Parameter::path("name", "LOCK", "Name of the lock")])
    .asks("Another may have the lock at once: if its holder goes on all the same, two do the same work."),
    Verb::get(
        "migrations.list",
        "migrations",
        "/v1/migrations",
        "Lists the migrations of the database: applied, pending, or of a newer program",
    )
    .view(View::Parts(views::cluster::MIGRATIONS)),
    Verb::post(
        "migrations.apply",
        "migrate",
        "/v1/migrations/apply",
        "Has a node that waits for migrations (UNDERSTUDY_DATABASE_MIGRATE=wait) apply them",
    )
    .with(&[
        Parameter::query("dry_run", Kind::Flag, "Only tell which ones").called("dry-run"),
        KEY,
    ])
    .view(View::Custom(views::cluster::migrated)),
    Verb::get(
        "audit.list",
        "audit",
        "/v1/audit",
        "Lists what operators did and what they were refused",
    )
    .with(&[
        Parameter::query("by", Kind::Text("NAME"), "Only what this token did"),
        Parameter::query("action", Kind::Text("ACTION"), "Only this, such as nodes.drain"),
        Parameter::query("outcome", OUTCOMES, "Only what came to this"),
        Parameter::query("from", Kind::Time, "Only from then on"),
        Parameter::query("to", Kind::Time, "Only until then"),
        Parameter::query("before", Kind::Whole, "What is older than this entry"),
        LIMIT,
    ])
    .pages("entries")
    .view(View::Parts(views::cluster::AUDIT)),
    Verb::get("tokens.list", "token list", "/v1/tokens", "Lists the tokens for this API")
        .view(View::Parts(views::cluster::TOKENS)),
    Verb::post(
        "tokens.create",
        "token create",
        "/v1/tokens",
        "Makes a token, which is shown this once",
    )
    .with(&[
        Parameter::body("name", Kind::Text("NAME"), "Whose it is, for the record").required(),
        Parameter::body("role", ROLES, "What it allows").required(),
        Parameter::body("expires_in_s", Kind::Seconds, "How long it counts; for ever if not said")
            .called("expires"),
    ])
    .view(View::Parts(views::cluster::NEW_TOKEN)),
    Verb::delete("tokens.revoke", "token revoke", "/v1/tokens/{id}", "Makes a token worthless")
        .with(&[Parameter::path("id", "TOKEN-ID", "Id of the token, from `token list`")])
        .asks("Whoever uses this token is locked out.")
        .view(View::Nothing("the token is revoked")),
    Verb::get(
        "definitions.export",
        "export",
        "/v1/definitions",
        "Prints what operators have defined, for `import` into this or another cluster",
    )
    .view(View::AsItIs),
    Verb::put(
        "definitions.import",
        "import",
        "/v1/definitions",
        "Takes over definitions that `export` printed",
    )
    .with(&[
        Parameter::query("dry_run", Kind::Flag, "Only tell what would change").called("dry-run")
    ])
    .manner(Manner::Document),
];
