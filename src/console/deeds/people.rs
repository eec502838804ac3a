//! What can be done to sessions and their actors, to requests and tokens: to people.

use understudy_runtime::admin::Role;

use super::fields::WHY;
use super::{Deed, Field, Kind, Place, Weight};

const ID: Field = Field::target("id");

const ROLES: &[(&str, &str)] = &[
    ("viewer", "viewer: may look"),
    ("support", "support: and look after sessions"),
    ("operator", "operator: and run the cluster"),
    ("admin", "admin: everything"),
];

/// These deeds.
pub(super) const DEEDS: &[Deed] = &[
    Deed {
        id: "sessions.end",
        page: "sessions",
        role: Role::Support,
        call: ("DELETE", "/v1/sessions/{id}"),
        label: "End",
        title: "End this session?",
        effect: "Whoever has it is signed out at once, and what it holds is gone.",
        done: "The session has ended.",
        back: "/console/sessions",
        fields: &[ID],
        weight: Weight::Grave,
    },
    Deed {
        id: "sessions.end_others",
        page: "sessions",
        role: Role::Support,
        call: ("DELETE", "/v1/sessions/{id}/others"),
        label: "End all others",
        title: "End all other sessions of this user?",
        effect: "The user stays signed in here and is signed out everywhere else; what the other \
            sessions hold is gone.",
        done: "The other sessions have ended.",
        back: "/console/sessions",
        fields: &[ID],
        weight: Weight::Grave,
    },
    Deed {
        id: "sessions.end_user",
        page: "sessions",
        role: Role::Support,
        call: ("DELETE", "/v1/users/{user}/sessions"),
        label: "End all of this user",
        title: "End all sessions of {user}?",
        effect: "The user is signed out everywhere, and what these sessions hold is gone.",
        done: "The sessions of {user} have ended.",
        back: "/console/sessions",
        fields: &[Field::target("user")],
        weight: Weight::Grave,
    },
    Deed {
        id: "sessions.end_all",
        page: "sessions",
        role: Role::Admin,
        call: ("POST", "/v1/sessions/end-all"),
        label: "End all sessions",
        title: "End all sessions of the cluster?",
        effect: "Everybody is signed out at once, and what all sessions hold is gone.",
        done: "All sessions have ended.",
        back: "/console/sessions",
        fields: &[
            WHY,
            Field::body("confirm", "Write: end all sessions", Kind::Words("end all sessions")),
        ],
        weight: Weight::Grave,
    },
    Deed {
        id: "actors.stop",
        page: "actors",
        role: Role::Admin,
        call: ("POST", "/v1/actors/{type}/{id}/stop"),
        label: "Stop",
        title: "Stop the actor of this session?",
        effect: "Its session is handed back to the store, and read again at its next request, by \
            whatever node that reaches. Nothing is lost; requests wait for a moment.",
        done: "The actor has stopped.",
        back: "/console/actors",
        fields: &[Field::target("type"), ID],
        weight: Weight::Grave,
    },
    Deed {
        id: "requests.cancel",
        page: "requests",
        role: Role::Admin,
        call: ("DELETE", "/v1/requests/{id}"),
        label: "Cancel",
        title: "Cancel this request?",
        effect: "Its handler is stopped where it waits, and its client gets an error. What it \
            has written stays.",
        done: "The request was cancelled.",
        back: "/console/requests",
        fields: &[ID, Field::new("node", "", (Kind::Target, Place::Query)).optional()],
        weight: Weight::Grave,
    },
    Deed {
        id: "tokens.create",
        page: "tokens",
        role: Role::Admin,
        call: ("POST", "/v1/tokens"),
        label: "New token",
        title: "Make a token",
        effect: "It is shown once, and only its digest is kept.",
        done: "The token was made.",
        back: "/console/tokens",
        fields: &[
            Field::body("name", "Whose it is", Kind::Line)
                .hint("The audit log calls its owner so."),
            Field::body("role", "Role", Kind::Choice(ROLES)),
            Field::body("expires_in_s", "Good for so many minutes", Kind::Minutes)
                .optional()
                .hint("10080 is a week. For ever when empty."),
        ],
        weight: Weight::Asked,
    },
    Deed {
        id: "tokens.revoke",
        page: "tokens",
        role: Role::Admin,
        call: ("DELETE", "/v1/tokens/{id}"),
        label: "Revoke",
        title: "Revoke this token?",
        effect: "Whoever uses it is refused at once, on all nodes, and signed out of the console.",
        done: "The token was revoked.",
        back: "/console/tokens",
        fields: &[ID],
        weight: Weight::Grave,
    },
];
