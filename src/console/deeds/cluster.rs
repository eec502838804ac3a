//! What can be done to nodes, to the leader, to settings, to locks and to files.

use understudy_runtime::admin::Role;

use super::fields::{FOR, PERHAPS_WHY, WHY};
use super::{Deed, Field, Kind, Place, Weight};

const NAME: Field = Field::target("name");
const FORCE: Field = Field::new("force", "Even if it is the last one", (Kind::Flag, Place::Query))
    .optional()
    .hint("Without it, the last node that serves is refused.");

const MODES: &[(&str, &str)] = &[
    ("off", "off: everything is served"),
    ("read_only", "read only: nothing may be changed"),
    ("full", "full: everybody is told to come back later"),
];

/// These deeds.
pub(super) const DEEDS: &[Deed] = &[
    Deed {
        id: "nodes.drain",
        page: "nodes",
        role: Role::Operator,
        call: ("POST", "/v1/nodes/{name}/drain"),
        label: "Drain",
        title: "Drain node {name}?",
        effect: "It is taken out of service without stopping: balancers are told to send no \
            more, it leads no more, and starts no runs. Its sessions are served by others.",
        done: "Node {name} is drained.",
        back: "/console/nodes/{name}",
        fields: &[NAME, WHY, FORCE],
        weight: Weight::Asked,
    },
    Deed {
        id: "nodes.undrain",
        page: "nodes",
        role: Role::Operator,
        call: ("POST", "/v1/nodes/{name}/undrain"),
        label: "Undrain",
        title: "Put node {name} back into service?",
        effect: "It is ready again, may lead, and takes runs.",
        done: "Node {name} serves again.",
        back: "/console/nodes/{name}",
        fields: &[NAME],
        weight: Weight::Light,
    },
    Deed {
        id: "nodes.restart",
        page: "nodes",
        role: Role::Operator,
        call: ("POST", "/v1/nodes/{name}/restart"),
        label: "Restart",
        title: "Restart node {name}?",
        effect: "It drains, hands over, and ends with status 0. Whatever started it must start \
            it again: without a supervisor it stays away.",
        done: "Node {name} restarts.",
        back: "/console/nodes",
        fields: &[NAME, WHY, FORCE],
        weight: Weight::Grave,
    },
    Deed {
        id: "nodes.maintenance_on",
        page: "nodes",
        role: Role::Operator,
        call: ("POST", "/v1/nodes/{name}/maintenance"),
        label: "Set aside",
        title: "Set node {name} aside?",
        effect: "It neither leads nor starts runs, also after a restart, until it is resumed. It \
            goes on serving requests.",
        done: "Node {name} is set aside.",
        back: "/console/nodes/{name}",
        fields: &[NAME, WHY, FORCE],
        weight: Weight::Asked,
    },
    Deed {
        id: "nodes.maintenance_off",
        page: "nodes",
        role: Role::Operator,
        call: ("DELETE", "/v1/nodes/{name}/maintenance"),
        label: "End maintenance",
        title: "Let node {name} lead and run jobs again?",
        effect: "It may lead and starts runs again.",
        done: "Node {name} may lead and run jobs again.",
        back: "/console/nodes/{name}",
        fields: &[NAME],
        weight: Weight::Light,
    },
    Deed {
        id: "nodes.resume",
        page: "nodes",
        role: Role::Operator,
        call: ("POST", "/v1/nodes/{name}/resume"),
        label: "Resume",
        title: "Let node {name} lead and run jobs again?",
        effect: "It may lead and starts runs again.",
        done: "Node {name} may lead and run jobs again.",
        back: "/console/nodes",
        fields: &[NAME],
        weight: Weight::Light,
    },
    Deed {
        id: "cluster.restart",
        page: "nodes",
        role: Role::Operator,
        call: ("POST", "/v1/cluster/rolling-restart"),
        label: "Rolling restart",
        title: "Restart all nodes, one after the other?",
        effect: "Each node drains, ends, and must be started again by its supervisor; the next \
            one follows when it is back and has settled. The leader comes last.",
        done: "The rolling restart has begun.",
        back: "/console/nodes",
        fields: &[
            WHY,
            Field::body("settle_ms", "Wait after each node, seconds", Kind::Seconds)
                .optional()
                .hint("5 when empty."),
            Field::body("limit_ms", "A node may take so many seconds", Kind::Seconds)
                .optional()
                .hint("300 when empty. The restart ends there when a node does not come back."),
        ],
        weight: Weight::Grave,
    },
    Deed {
        id: "leader.step_down",
        page: "leader",
        role: Role::Operator,
        call: ("POST", "/v1/leader/step-down"),
        label: "Step down",
        title: "Let another node lead?",
        effect: "The leader finishes what it is writing, gives up its term, and does not lead \
            for a while. Jobs that run on it go on.",
        done: "The leader has stepped down.",
        back: "/console/leader",
        fields: &[Field::body("hold_ms", "Do not lead for so many seconds", Kind::Seconds)
            .optional()
            .hint("Up to a day; the time to live of the lease when empty.")],
        weight: Weight::Asked,
    },
    Deed {
        id: "leader.drill",
        page: "leader",
        role: Role::Operator,
        call: ("POST", "/v1/leader/drill"),
        label: "Drill",
        title: "Exercise a hand-over?",
        effect: "The leader hands over as if it were stopped. The answer says how long nobody led.",
        done: "The hand-over was exercised.",
        back: "/console/leader",
        fields: &[],
        weight: Weight::Asked,
    },
    Deed {
        id: "leader.freeze",
        page: "leader",
        role: Role::Operator,
        call: ("POST", "/v1/leader/freeze"),
        label: "Freeze",
        title: "Keep the leader where it is?",
        effect: "It does not hand over to a node of greater priority. When it dies, another \
            leads all the same.",
        done: "The leader stays where it is.",
        back: "/console/leader",
        fields: &[WHY],
        weight: Weight::Asked,
    },
    Deed {
        id: "leader.unfreeze",
        page: "leader",
        role: Role::Operator,
        call: ("POST", "/v1/leader/unfreeze"),
        label: "Unfreeze",
        title: "Let priorities count again?",
        effect: "The leader hands over to a node of greater priority.",
        done: "Priorities count again.",
        back: "/console/leader",
        fields: &[PERHAPS_WHY],
        weight: Weight::Light,
    },
    Deed {
        id: "settings.set",
        page: "settings",
        role: Role::Operator,
        call: ("PUT", "/v1/settings/{name}"),
        label: "Change",
        title: "Change {name}?",
        effect: "It counts on all nodes at once, without a restart.",
        done: "{name} was changed.",
        back: "/console/settings",
        fields: &[NAME, Field::body("value", "Value", Kind::Line), WHY, FOR],
        weight: Weight::Asked,
    },
    Deed {
        id: "settings.reset",
        page: "settings",
        role: Role::Operator,
        call: ("DELETE", "/v1/settings/{name}"),
        label: "Reset",
        title: "Reset {name}?",
        effect: "What the options of each node say counts again.",
        done: "{name} is as the options say.",
        back: "/console/settings",
        fields: &[NAME],
        weight: Weight::Asked,
    },
    Deed {
        id: "maintenance.set",
        page: "maintenance",
        role: Role::Operator,
        call: ("PUT", "/v1/maintenance"),
        label: "Change",
        title: "Change the maintenance mode?",
        effect: "It counts on all nodes at once, or on the one that is named, and stays after a \
            restart.",
        done: "The maintenance mode was changed.",
        back: "/console/maintenance",
        fields: &[
            Field::body("mode", "Mode", Kind::Choice(MODES)),
            Field::body("message", "Message for visitors", Kind::Line)
                .optional()
                .unless("mode", "off"),
            Field::body("retry_after_s", "Come back after so many seconds", Kind::Number)
                .optional()
                .unless("mode", "off"),
            Field::body("node", "Only on this node", Kind::Line)
                .optional()
                .hint("Its name; all nodes when empty."),
            WHY,
            FOR.unless("mode", "off"),
        ],
        weight: Weight::Asked,
    },
    Deed {
        id: "maintenance.bypass",
        page: "maintenance",
        role: Role::Operator,
        call: ("POST", "/v1/maintenance/bypass"),
        label: "Make a bypass",
        title: "Make a bypass?",
        effect: "Whoever sends the header that you are shown is served as if there were no \
            maintenance: to look at things before others do.",
        done: "The bypass was made.",
        back: "/console/maintenance",
        fields: &[FOR],
        weight: Weight::Asked,
    },
    Deed {
        id: "locks.clear",
        page: "locks",
        role: Role::Operator,
        call: ("DELETE", "/v1/locks/{name}"),
        label: "Take away",
        title: "Take the lock {name} away?",
        effect: "Its holder is told, and another may have it at once. If the holder goes on all \
            the same, two do the same work: only its fencing token tells them apart.",
        done: "The lock {name} is free.",
        back: "/console/locks",
        fields: &[NAME],
        weight: Weight::Grave,
    },
    Deed {
        id: "caches.clear_all",
        page: "caches",
        role: Role::Operator,
        call: ("DELETE", "/v1/caches"),
        label: "Forget everything",
        title: "Forget all that is cached?",
        effect: "Every value of every region is loaded anew when it is next asked for, from the \
            database as a rule: it will have much to do for a moment.",
        done: "All that was cached is forgotten.",
        back: "/console/caches",
        fields: &[],
        weight: Weight::Grave,
    },
    Deed {
        id: "caches.clear",
        page: "caches",
        role: Role::Operator,
        call: ("DELETE", "/v1/caches/{region}"),
        label: "Forget all",
        title: "Forget all values of {region}?",
        effect: "Each of them is loaded anew when it is next asked for, from the database as a rule.",
        done: "All values of {region} are forgotten.",
        back: "/console/caches",
        fields: &[Field::target("region")],
        weight: Weight::Grave,
    },
    Deed {
        id: "caches.forget",
        page: "caches",
        role: Role::Operator,
        call: ("DELETE", "/v1/caches/{region}/{key}"),
        label: "Forget one",
        title: "Forget a value of {region}?",
        effect: "It is loaded anew when it is next asked for.",
        done: "The value is forgotten.",
        back: "/console/caches",
        fields: &[
            Field::target("region"),
            Field::new("key", "Key of the value", (Kind::Line, Place::Path)),
        ],
        weight: Weight::Grave,
    },
    Deed {
        id: "files.delete",
        page: "files",
        role: Role::Operator,
        call: ("DELETE", "/v1/files/{space}/{name}"),
        label: "Remove",
        title: "Remove the file {name} of {space}?",
        effect: "It is gone for everybody at once, and its content is removed ten minutes later. \
            Whoever is just reading it can do so to its end.",
        done: "The file {name} was removed.",
        back: "/console/files?space={space}",
        fields: &[NAME, Field::target("space")],
        weight: Weight::Grave,
    },
    Deed {
        id: "files.gc",
        page: "files",
        role: Role::Operator,
        call: ("POST", "/v1/files-orphans/collect"),
        label: "Remove them now",
        title: "Remove files that nobody uses?",
        effect: "Up to 1,000 of them are gone at once, as they would be within the hour. One that somebody \
            uses by then stays.",
        done: "Files that nobody used were removed.",
        back: "/console/files?unused=yes",
        fields: &[],
        weight: Weight::Asked,
    },
];
