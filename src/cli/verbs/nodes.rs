//! Verbs about nodes: what they are, taking them out of service, their options.

use super::super::verb::{Kind, Manner, Parameter, Verb, Waits};
use super::super::view::View;
use super::super::views;
use super::{FORCE, KEY, OF_NODE, WHY};

const NODE: Parameter = Parameter::path("name", "NODE", "Name of the node");
const SETTLE: Parameter = Parameter::body(
    "settle_ms",
    Kind::Millis,
    "How long a node that is back must stay ready before the next one goes",
)
.called("settle");

const NODE_LIMIT: Parameter = Parameter::body(
    "limit_ms",
    Kind::Millis,
    "How long one node may take; the restart ends there if it takes longer",
)
.called("limit");
const THROUGH: Parameter = Parameter::query(
    "through",
    Kind::Text("URL"),
    "Looks through the balancer too, at the address that browsers type",
);

const LEVELS: Kind = Kind::Word("LEVEL", &["error", "warn", "info", "debug", "trace"]);

pub(super) const VERBS: &[Verb] = &[
    Verb::get("about.show", "about", "/v1/about", "Shows the node that answers")
        .view(View::Parts(views::nodes::ABOUT)),
    Verb::get("whoami.show", "whoami", "/v1/whoami", "Shows whose token this is and what it allows"),
    Verb::get("nodes.list", "nodes", "/v1/nodes", "Lists the nodes of the cluster")
        .view(View::Parts(views::nodes::NODES)),
    Verb::get("nodes.show", "node show", "/v1/nodes/{name}", "Shows one node in full")
        .with(&[NODE])
        .view(View::Parts(views::nodes::NODE)),
    Verb::post(
        "nodes.drain",
        "node drain",
        "/v1/nodes/{name}/drain",
        "Takes a node out of service: it neither leads nor starts runs, and the balancer sends it nothing",
    )
    .with(&[NODE, WHY, FORCE])
    .manner(Manner::Waits(Waits::Drain)),
    Verb::post(
        "nodes.undrain",
        "node undrain",
        "/v1/nodes/{name}/undrain",
        "Takes a node back into service",
    )
    .with(&[NODE]),
    Verb::post(
        "nodes.restart",
        "node restart",
        "/v1/nodes/{name}/restart",
        "Drains a node and ends its process, for a supervisor that starts it again",
    )
    .with(&[NODE, WHY, FORCE])
    .asks("This ends the process of the node: without a supervisor that starts it again it stays away."),
    Verb::get(
        "nodes.safe_to_stop",
        "node safe-to-stop",
        "/v1/nodes/{name}/safe-to-stop",
        "Says whether a node can be stopped without harm",
    )
    .with(&[NODE])
    .view(View::Custom(views::nodes::safe_to_stop)),
    Verb::post(
        "nodes.maintenance_on",
        "node maintenance",
        "/v1/nodes/{name}/maintenance",
        "Lets a node neither lead nor start runs, also after a restart",
    )
    .with(&[NODE, WHY, FORCE]),
    Verb::post(
        "nodes.resume",
        "node resume",
        "/v1/nodes/{name}/resume",
        "Ends the maintenance of a node",
    )
    .with(&[NODE]),
    Verb::delete(
        "nodes.maintenance_off",
        "node maintenance-off",
        "/v1/nodes/{name}/maintenance",
        "Ends the maintenance of a node, as `node resume` does",
    )
    .with(&[NODE]),
    Verb::post(
        "cluster.restart",
        "cluster restart",
        "/v1/cluster/rolling-restart",
        "Restarts all nodes, one after the other",
    )
    .with(&[WHY, SETTLE, NODE_LIMIT, KEY])
    .asks("This restarts every node of the cluster, one after the other.")
    .manner(Manner::Waits(Waits::Restart)),
    Verb::get(
        "cluster.restart_show",
        "cluster restart-status",
        "/v1/cluster/rolling-restart",
        "Shows how far the restart of all nodes is",
    )
    .view(View::Parts(views::nodes::RESTART)),
    Verb::get("config.show", "config show", "/v1/config", "Shows the options in effect, secrets as stars")
        .with(&[OF_NODE])
        .view(View::Custom(views::nodes::options))
        .manner(Manner::Options),
    Verb::get("config.drift", "config diff", "/v1/config/drift", "Shows options that differ between nodes")
        .view(View::Custom(views::nodes::drift)),
    Verb::get(
        "diag.run",
        "doctor",
        "/v1/diag",
        "Examines a node and what it needs; exits with 1 for warnings and 2 for what is critical",
    )
    .with(&[OF_NODE, THROUGH])
    .view(View::Custom(views::findings::checks))
    .manner(Manner::Doctor),
    Verb::get("requests.list", "requests", "/v1/requests", "Lists the requests that a node is serving")
        .with(&[OF_NODE])
        .view(View::Parts(views::nodes::REQUESTS)),
    Verb::delete("requests.cancel", "requests cancel", "/v1/requests/{id}", "Cancels a request")
        .with(&[Parameter::path("id", "REQUEST", "Id of the request"), OF_NODE])
        .asks("The handler of this request is stopped where it waits, and its client gets an error.")
        .view(View::Custom(views::nodes::cancelled)),
    Verb::get(
        "diag.tasks",
        "diag tasks",
        "/v1/diag/tasks",
        "Shows what the process of a node is doing: tasks, threads, requests, runs, locks, leases",
    )
    .with(&[OF_NODE])
    .view(View::Parts(views::nodes::TASKS)),
    Verb::get(
        "logs.tail",
        "log tail",
        "/v1/logs/tail",
        "Follows the log of a node, once `settings set log_tail on --for 10min` allows it",
    )
    .with(&[
        Parameter::query("level", LEVELS, "Only lines of this level and graver ones"),
        Parameter::query("target", Kind::Text("TARGET"), "Only lines whose target begins so"),
        Parameter::query("contains", Kind::Text("TEXT"), "Only lines with this text in them"),
        Parameter::query("last", Kind::Whole, "Begin with so many of the lines that are kept, 0 to 512"),
        Parameter::query("follow", Kind::Mark("false"), "Only the lines that are kept").called("no-follow"),
        OF_NODE,
    ])
    .manner(Manner::LogTail),
    Verb::get("metrics.show", "metrics", "/metrics", "Prints the metrics in the format of Prometheus")
        .view(View::AsItIs),
    Verb::get("openapi.show", "openapi", "/v1/openapi.json", "Prints the description of the API (OpenAPI)")
        .view(View::AsItIs),
];
