//! Verbs about sessions. Of a session only what is around it is shown, never what is in it.

use super::super::verb::{Kind, Parameter, Verb};
use super::super::view::View;
use super::super::views;
use super::{LIMIT, WHY};

const SESSION: Parameter = Parameter::path("id", "SESSION", "Id of the session, from `sessions`");

pub(super) const VERBS: &[Verb] = &[
    Verb::get("sessions.list", "sessions", "/v1/sessions", "Lists sessions")
        .with(&[
            Parameter::query("user", Kind::Text("USER"), "Only of this user"),
            Parameter::query("after", Kind::Text("SESSION"), "Those behind this one"),
            LIMIT,
        ])
        .pages("sessions")
        .view(View::Parts(views::sessions::SESSIONS)),
    Verb::get(
        "sessions.count",
        "sessions count",
        "/v1/sessions/count",
        "Counts sessions and users",
    ),
    Verb::get(
        "users.online",
        "sessions online",
        "/v1/users/online",
        "Lists users of whom a session was used lately",
    )
    .with(&[
        Parameter::query(
            "within_s",
            Kind::Seconds,
            "Within this time, an hour at most; 5min if not said",
        )
        .called("within"),
        Parameter::query("after", Kind::Text("USER"), "Those behind this one"),
        LIMIT,
    ])
    .pages("users")
    .view(View::Parts(views::sessions::ONLINE)),
    Verb::get(
        "sessions.show",
        "session show",
        "/v1/sessions/{id}",
        "Shows a session without its content",
    )
    .with(&[SESSION])
    .view(View::Parts(views::sessions::SESSION)),
    Verb::delete(
        "sessions.end",
        "session end",
        "/v1/sessions/{id}",
        "Ends a session, on every node",
    )
    .with(&[SESSION])
    .asks("Whoever has this session is logged out, and what it holds is gone."),
    Verb::delete(
        "sessions.end_others",
        "session end-others",
        "/v1/sessions/{id}/others",
        "Ends all other sessions of the user of a session",
    )
    .with(&[SESSION])
    .asks("This user is logged out everywhere else, and what those sessions hold is gone."),
    Verb::delete(
        "sessions.end_user",
        "sessions end-user",
        "/v1/users/{user}/sessions",
        "Ends all sessions of a user",
    )
    .with(&[Parameter::path("user", "USER", "The user")])
    .asks("This user is logged out everywhere, and what the sessions hold is gone."),
    Verb::post(
        "sessions.end_all",
        "sessions end-all",
        "/v1/sessions/end-all",
        "Ends all sessions of all users",
    )
    .with(&[WHY, Parameter::body("confirm", Kind::Constant("end all sessions"), "")])
    .asks("This ends all sessions of the cluster: everybody is logged out."),
];
