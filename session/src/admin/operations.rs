//! What can be asked of the resources of sessions, and who may.

use understudy_runtime::admin::{Operation, Parameter, Role};

const TEXT: &str = r#"{"type":"string"}"#;
const USER: &str = r#"{"type":"string","minLength":1,"maxLength":256}"#;
const LIMIT: &str = r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#;
const WITHIN: &str = r#"{"type":"integer","minimum":1,"maximum":3600,"default":300}"#;
const END_ALL: &str = r#"{"type":"object","required":["confirm","why"],"additionalProperties":false,"properties":{
    "confirm":{"const":"end all sessions"},"why":{"type":"string","minLength":1,"maxLength":1000}}}"#;

const ENDED: &[(u16, &str)] = &[
    (200, "How many were ended"),
    (503, "end_not_confirmed: a node that lives did not say that it knows"),
];
const ENDED_ONE: &[(u16, &str)] = &[
    (200, "It was ended"),
    (404, "unknown_session"),
    (409, "ambiguous_id"),
    (503, "end_not_confirmed: a node that lives did not say that it knows"),
];
const ENDED_OTHERS: &[(u16, &str)] = &[
    (200, "How many were ended"),
    (404, "unknown_session"),
    (409, "ambiguous_id; no_user: nobody is logged in in it"),
    (503, "end_not_confirmed: a node that lives did not say that it knows"),
];
const ONE: &[(u16, &str)] =
    &[(200, "The session"), (404, "unknown_session"), (409, "ambiguous_id")];

/// The operations of the session service.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation::get("sessions.list", "/v1/sessions", "Lists sessions, all or those of a user")
        .role(Role::Support)
        .query(&[
            Parameter::new("user", USER, "Only those of this user"),
            Parameter::new("after", TEXT, "The `next` of the page before"),
            Parameter::new("limit", LIMIT, "How many at most"),
        ])
        .cli("sessions")
        .console("sessions"),
    Operation::get("sessions.count", "/v1/sessions/count", "Counts sessions")
        .cli("sessions count")
        .console("overview"),
    Operation::get(
        "users.online",
        "/v1/users/online",
        "Lists users of whom a session was used lately, and counts them and guests",
    )
    .role(Role::Support)
    .query(&[
        Parameter::new("within_s", WITHIN, "Since how many seconds ago"),
        Parameter::new("after", TEXT, "The `next` of the page before"),
        Parameter::new("limit", LIMIT, "How many at most"),
    ])
    .cli("sessions online")
    .console("sessions"),
    Operation::get(
        "sessions.show",
        "/v1/sessions/{id}",
        "Shows what a session is, not its content",
    )
    .role(Role::Support)
    .answers(ONE)
    .cli("session show")
    .console("sessions"),
    Operation::delete("sessions.end", "/v1/sessions/{id}", "Ends a session on every node")
        .role(Role::Support)
        .answers(ENDED_ONE)
        .cli("session end")
        .console("sessions"),
    Operation::delete(
        "sessions.end_others",
        "/v1/sessions/{id}/others",
        "Ends all other sessions of the user of a session on every node",
    )
    .role(Role::Support)
    .answers(ENDED_OTHERS)
    .cli("session end-others")
    .console("sessions"),
    Operation::delete(
        "sessions.end_user",
        "/v1/users/{user}/sessions",
        "Ends all sessions of a user on every node",
    )
    .role(Role::Support)
    .answers(ENDED)
    .cli("sessions end-user")
    .console("sessions"),
    Operation::post("sessions.end_all", "/v1/sessions/end-all", "Ends all sessions that there are")
        .role(Role::Admin)
        .body(END_ALL)
        .answers(&[
            (200, "How many were ended, and how many could not be"),
            (202, "How many so far; it goes on"),
            (
                503,
                "end_not_confirmed: a node that lives did not say that it knows; with the counts",
            ),
        ])
        .cli("sessions end-all")
        .console("sessions"),
];
