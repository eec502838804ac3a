//! What can be asked of every node, whatever its services.

use super::{Operation, Parameter, Role};

const LIMIT: Parameter = Parameter::new(
    "limit",
    r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#,
    "How many at most",
);

const NODE: Parameter = Parameter::new(
    "node",
    r#"{"type":"string"}"#,
    "Of which node, by name; the one that is asked if not said",
);
const NODE_ANSWERS: &[(u16, &str)] = &[
    (404, "unknown_node: there is none of this name"),
    (503, "node_unreachable: the node does not answer"),
];
const FORCE: Parameter =
    Parameter::new("force", r#"{"type":"boolean"}"#, "Even when no other node is ready");
const WHY: &str = r#"{"type":"object","required":["why"],"additionalProperties":false,"properties":{
    "why":{"type":"string","minLength":1,"maxLength":1000}}}"#;
const NOTHING: &str = r#"{"type":"object","additionalProperties":false,"properties":{}}"#;
const ONLY_AT: Parameter = Parameter::new(
    "If-Match",
    r#"{"type":"string"}"#,
    "Only when it has this revision; 0 when nobody has set it",
);
const FORGOTTEN: &[(u16, &str)] = &[
    (
        200,
        "It is forgotten; `behind` and `unreachable` name the nodes that may give it for up to `bound_ms` more",
    ),
    (404, "unknown_region: no node has opened one of this name"),
    (503, "redis_unavailable: the other nodes could not be told"),
];
const CHANGES: &[(u16, &str)] = &[
    (404, "unknown_setting: there is none of this name"),
    (409, "other_resource: it is changed through a resource of its own"),
    (412, "revision_changed: it was changed since it was read"),
];

/// The operations of the runtime.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation::get("about.show", "/v1/about", "Shows this node, its phase and its services")
        .cli("about")
        .console("overview"),
    Operation::get("whoami.show", "/v1/whoami", "Says whose token it is and what it may do")
        .cli("whoami")
        .console("overview"),
    Operation::get("openapi.show", "/v1/openapi.json", "Shows this API as an OpenAPI document")
        .cli("openapi"),
    Operation::get("metrics.show", "/metrics", "Shows all metrics in the text format of Prometheus")
        .cli("metrics"),
    Operation::get("nodes.list", "/v1/nodes", "Lists the nodes of the cluster")
        .cli("nodes")
        .console("nodes"),
    Operation::get("nodes.show", "/v1/nodes/{name}", "Shows how a node is, through any other")
        .answers(&[(404, "unknown_node: no node of this name is listed")])
        .cli("node show")
        .console("nodes"),
    Operation::post(
        "nodes.drain",
        "/v1/nodes/{name}/drain",
        "Takes a node out of service without stopping it: not ready, not leading, no new runs",
    )
    .query(&[FORCE])
    .body(WHY)
    .answers(&[
        (404, "unknown_node: no node of this name is listed"),
        (409, "last_node: no other node is ready; node_stops: it is being stopped"),
        (503, "node_unreachable: it does not answer"),
    ])
    .cli("node drain")
    .console("nodes"),
    Operation::post(
        "nodes.undrain",
        "/v1/nodes/{name}/undrain",
        "Takes a node back into service",
    )
    .optional_body(NOTHING)
    .answers(&[
        (404, "unknown_node: no node of this name is listed"),
        (409, "node_stops: it is being stopped"),
        (503, "node_unreachable: it does not answer"),
    ])
    .cli("node undrain")
    .console("nodes"),
    Operation::post(
        "nodes.restart",
        "/v1/nodes/{name}/restart",
        "Has a node drain and end its process, for a supervisor that starts it again",
    )
    .query(&[FORCE])
    .body(WHY)
    .answers(&[
        (202, "It will"),
        (404, "unknown_node: no node of this name is listed"),
        (409, "last_node: no other node is ready"),
        (503, "node_unreachable: it does not answer"),
    ])
    .cli("node restart")
    .console("nodes"),
    Operation::get(
        "nodes.safe_to_stop",
        "/v1/nodes/{name}/safe-to-stop",
        "Says whether a node can be stopped without harm, and what would be handed over",
    )
    .answers(&[
        (404, "unknown_node: no node of this name is listed"),
        (409, "not_safe: `reasons` says why"),
    ])
    .cli("node safe-to-stop")
    .console("nodes"),
    Operation::get("config.show", "/v1/config", "Shows every option in effect and where it comes from, secrets as stars")
        .query(&[NODE])
        .answers(NODE_ANSWERS)
        .cli("config show")
        .console("config"),
    Operation::get("config.drift", "/v1/config/drift", "Lists the options that differ between nodes, with the values")
        .cli("config diff")
        .console("config"),
    Operation::get("problems.list", "/v1/problems", "Lists what is wrong in the cluster and what to do about it")
        .cli("problems")
        .console("problems"),
    Operation::get("diag.run", "/v1/diag", "Examines a node, its servers and its surroundings now")
        .query(&[
            NODE,
            Parameter::new(
                "through",
                r#"{"type":"string","format":"uri"}"#,
                "Looks through the balancer too, at the address that browsers type; for operators",
            ),
        ])
        .answers(NODE_ANSWERS)
        .cli("doctor")
        .console("problems"),
    Operation::get("diag.tasks", "/v1/diag/tasks", "Shows what the process of a node is doing: tasks, threads, requests, runs, locks, leases")
        .role(Role::Admin)
        .query(&[NODE])
        .answers(NODE_ANSWERS)
        .cli("diag tasks")
        .console("nodes"),
    Operation::get("logs.tail", "/v1/logs/tail", "Follows the log of the node that is asked, while the setting log_tail is on (server-sent events)")
        .role(Role::Admin)
        .query(&[
            Parameter::new("node", r#"{"type":"string"}"#, "Whose log; another node than the one that is asked is refused with its address"),
            Parameter::new("level", r#"{"enum":["error","warn","info","debug","trace"]}"#, "Only lines of this level and graver ones"),
            Parameter::new("target", r#"{"type":"string"}"#, "Only lines whose target begins so, such as understudy_session"),
            Parameter::new("contains", r#"{"type":"string"}"#, "Only lines with this text in them, in small or capital letters"),
            Parameter::new("last", r#"{"type":"integer","minimum":0,"maximum":512,"default":100}"#, "How many of the lines that are kept come first"),
            Parameter::new("follow", r#"{"type":"boolean","default":true}"#, "Whether to go on after those"),
        ])
        .answers(&[
            (200, "text/event-stream: events `line` with number, at, level, target and text, `lost` with the number of lines that went, `end`"),
            (404, "unknown_node: there is no node of this name"),
            (409, "log_tail_off: the setting is off; other_node: ask it itself; log_not_ours: the application writes its log itself"),
            (503, "too_many_listeners: 10 follow it; draining: the node is being stopped"),
        ])
        .cli("log tail")
        .console("log"),
    Operation::get("migrations.list", "/v1/migrations", "Lists the migrations of the database: applied, pending, or of a newer program")
        .cli("migrations")
        .console("migrations"),
    Operation::post("migrations.apply", "/v1/migrations/apply", "Has a node that waits for migrations apply them")
        .role(Role::Admin)
        .query(&[Parameter::new("dry_run", r#"{"type":"boolean"}"#, "Only tell which ones")])
        .optional_body(NOTHING)
        .answers(&[
            (200, "What was applied"),
            (202, "It applies them still"),
            (409, "not_waiting: the node does not wait for migrations"),
        ])
        .cli("migrate"),
    Operation::get("locks.list", "/v1/locks", "Lists the locks that are held in the cluster")
        .cli("locks")
        .console("locks"),
    Operation::delete("locks.clear", "/v1/locks/{name*}", "Takes a lock away from its holder")
        .answers(&[(404, "lock_not_held: nobody holds a lock of this name")])
        .cli("locks clear")
        .console("locks"),
    Operation::get("audit.list", "/v1/audit", "Lists who did what and who was refused, the newest first")
        .role(Role::Operator)
        .query(&[
            Parameter::new("before", r#"{"type":"integer","minimum":1}"#, "The `next` of the page before"),
            LIMIT,
            Parameter::new("by", r#"{"type":"string"}"#, "Of whom"),
            Parameter::new("action", r#"{"type":"string"}"#, "Of which operation"),
            Parameter::new("outcome", r#"{"enum":["done","refused","failed"]}"#, "With which outcome"),
            Parameter::new("from", r#"{"type":"string"}"#, "From this time on, ms since 1970 or RFC 3339"),
            Parameter::new("to", r#"{"type":"string"}"#, "Before this time"),
        ])
        .cli("audit")
        .console("audit"),
    Operation::get("tokens.list", "/v1/tokens", "Lists the tokens that are kept in the database")
        .role(Role::Admin)
        .cli("token list")
        .console("tokens"),
    Operation::post("tokens.create", "/v1/tokens", "Makes a token, which is shown this once")
        .role(Role::Admin)
        .body(
            r#"{"type":"object","required":["name","role"],"additionalProperties":false,"properties":{
                "name":{"type":"string","minLength":1,"maxLength":64},
                "role":{"enum":["viewer","support","operator","admin"]},
                "expires_in_s":{"type":"integer","minimum":1,"maximum":316224000}}}"#,
        )
        .answers(&[(201, "The token")])
        .cli("token create")
        .console("tokens"),
    Operation::delete("tokens.revoke", "/v1/tokens/{id}", "Ends a token on all nodes")
        .role(Role::Admin)
        .answers(&[(204, "It counts no more"), (404, "unknown_token: there is none of this id")])
        .cli("token revoke")
        .console("tokens"),
    Operation::get("events.watch", "/v1/events", "Streams a word for each kind of thing that changes (server-sent events)")
        .answers(&[
            (200, "text/event-stream: events `nodes`, `leader`, `problems`, `settings`, `jobs`, `audit`, and `resync` when some were missed"),
            (503, "too_many_watchers: 100 watch on this node; draining: it is being stopped"),
        ])
        .cli("watch")
        .console("overview"),
    Operation::get("settings.list", "/v1/settings", "Lists the options that are changed while the cluster runs")
        .cli("settings")
        .console("settings"),
    Operation::put("settings.set", "/v1/settings/{name}", "Changes a setting on all nodes; the log filter needs the role admin")
        .headers(&[ONLY_AT])
        .body(
            r#"{"type":"object","required":["value","why"],"additionalProperties":false,"properties":{
                "value":{"type":"string","minLength":1,"maxLength":4000},
                "why":{"type":"string","minLength":1,"maxLength":1000},
                "for_s":{"type":"integer","minimum":1,"maximum":31622400}}}"#,
        )
        .answers(CHANGES)
        .cli("settings set")
        .console("settings"),
    Operation::delete("settings.reset", "/v1/settings/{name}", "Takes a setting back to what the options of the nodes say")
        .headers(&[ONLY_AT])
        .answers(CHANGES)
        .cli("settings reset")
        .console("settings"),
    Operation::get("maintenance.show", "/v1/maintenance", "Shows whom the public port serves, in the cluster and on single nodes")
        .cli("maintenance")
        .console("maintenance"),
    Operation::put("maintenance.set", "/v1/maintenance", "Lets the public port serve everybody, readers only, or nobody")
        .headers(&[ONLY_AT])
        .body(
            r#"{"type":"object","required":["mode","why"],"additionalProperties":false,"properties":{
                "mode":{"enum":["off","read_only","full"]},
                "message":{"type":"string","minLength":1,"maxLength":1000},
                "retry_after_s":{"type":"integer","minimum":1,"maximum":86400},
                "why":{"type":"string","minLength":1,"maxLength":1000},
                "node":{"type":"string","minLength":1,"maxLength":64},
                "for_s":{"type":"integer","minimum":1,"maximum":31622400}}}"#,
        )
        .answers(&[
            (404, "unknown_node: there is no node of this name"),
            (412, "revision_changed: it was changed since it was read"),
        ])
        .cli("maintenance set")
        .console("maintenance"),
    Operation::post("maintenance.bypass", "/v1/maintenance/bypass", "Makes a word that lets its bearer in during maintenance")
        .optional_body(
            r#"{"type":"object","additionalProperties":false,"properties":{
                "for_s":{"type":"integer","minimum":1,"maximum":604800,"default":3600}}}"#,
        )
        .cli("maintenance bypass")
        .console("maintenance"),
    Operation::get("actors.list", "/v1/actors", "Lists what the actors of all nodes do, by their type, and the background tasks")
        .cli("actors")
        .console("actors"),
    Operation::get("actors.slow", "/v1/actors/slow", "Lists the slowest messages of actors of the last 15 minutes, of all nodes; of which actor each was needs the role support")
        .query(&[
            Parameter::new("type", r#"{"type":"string"}"#, "Only those of this type of actors"),
            Parameter::new("limit", r#"{"type":"integer","minimum":1,"maximum":200,"default":20}"#, "How many at most"),
        ])
        .answers(&[(404, "unknown_actor_type: there is none of this name")])
        .cli("actors top")
        .console("actors"),
    Operation::get("actors.show", "/v1/actors/{type}/{id}", "Shows how one actor is, without what it holds: a session by its id, others by their node")
        .role(Role::Support)
        .answers(&[
            (404, "unknown_actor_type, unknown_actor, unknown_session, unknown_node"),
            (409, "ambiguous_id: several sessions have an id that begins so"),
            (503, "node_unreachable: the node does not answer"),
        ])
        .cli("actors show")
        .console("actors"),
    Operation::post("actors.stop", "/v1/actors/{type}/{id}/stop", "Stops one actor: a session is handed back to the store, and its next request starts another one")
        .role(Role::Admin)
        .optional_body(NOTHING)
        .answers(&[
            (404, "unknown_actor_type, unknown_actor, unknown_session"),
            (409, "not_stoppable: `detail` says what to do instead; actor_busy: it has work without a pause; ambiguous_id"),
            (503, "node_unreachable: its node does not answer"),
        ])
        .cli("actors stop")
        .console("actors"),
    Operation::get("caches.list", "/v1/caches", "Lists the regions of the cache: what they hold and did on each node")
        .cli("caches")
        .console("caches"),
    Operation::delete("caches.clear_all", "/v1/caches", "Forgets all cached values of all regions, on all nodes")
        .answers(FORGOTTEN)
        .cli("caches clear-all")
        .console("caches"),
    Operation::delete("caches.clear", "/v1/caches/{region}", "Forgets all cached values of a region, on all nodes")
        .answers(FORGOTTEN)
        .cli("caches clear")
        .console("caches"),
    Operation::delete("caches.forget", "/v1/caches/{region}/{key*}", "Forgets one cached value, on all nodes")
        .answers(FORGOTTEN)
        .cli("caches forget")
        .console("caches"),
    Operation::get("requests.list", "/v1/requests", "Lists the requests that a node's public port is working on")
        .role(Role::Admin)
        .query(&[NODE])
        .answers(NODE_ANSWERS)
        .cli("requests")
        .console("requests"),
    Operation::delete("requests.cancel", "/v1/requests/{id}", "Ends a request: its client gets 504 cancelled_by_operator")
        .role(Role::Admin)
        .query(&[NODE])
        .answers(&[
            (200, "It has ended"),
            (202, "Its worker is blocked by a handler: it ends when its worker answers, unless it has ended by then"),
            (404, "unknown_request: it is not under way; unknown_node: there is no node of this name"),
            (503, "node_unreachable: the node does not answer; worker_blocked: nor does the worker, which cannot be told more"),
        ])
        .cli("requests cancel")
        .console("requests"),
];
