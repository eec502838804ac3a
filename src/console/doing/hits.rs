//! What a deed will hit, looked up before somebody is asked: how many sessions, which runs, and whether a node can be
//! spared.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{Kind, Told, Trouble, encoded, target};
use super::super::deeds::{Deed, Form};
use super::super::icons::icon;
use super::super::look::Look as _;
use super::super::visit::Visit;
use super::super::{parts, states, words};

/// So many of a user's sessions are listed.
const LISTED: usize = 5;

/// Says what it will hit.
pub(super) async fn of(visit: &Visit, deed: &Deed, form: &Form) -> Markup {
    match deed.id {
        "nodes.drain" | "nodes.restart" | "nodes.maintenance_on" => {
            let path = format!("/v1/nodes/{}/safe-to-stop", encoded(form.value("name")));
            safe(&visit.get(&path).await)
        }
        "cluster.restart" => nodes(&visit.get("/v1/nodes").await),
        "leader.step_down" | "leader.drill" => leader(&visit.get("/v1/leader").await),
        "jobs.cancel" => {
            let query = [
                ("job", form.value("name")),
                ("state", "queued,running,retrying"),
                ("limit", "100"),
            ];
            runs(&visit.get(&target("/v1/runs", &query)).await)
        }
        "runs.cancel" => {
            run(visit, &visit.get(&format!("/v1/runs/{}", encoded(form.value("id")))).await)
        }
        "sessions.end" | "sessions.end_others" | "actors.stop" => {
            session(visit, &visit.get(&format!("/v1/sessions/{}", encoded(form.value("id")))).await)
        }
        "sessions.end_user" => {
            let query = [("user", form.value("user")), ("limit", "100")];
            of_user(visit, form.value("user"), &visit.get(&target("/v1/sessions", &query)).await)
        }
        "sessions.end_all" => count(&visit.get("/v1/sessions/count").await),
        _ => html! {},
    }
}

/// The frame of what is hit.
fn hit(body: impl maud::Render) -> Markup {
    html! { div.hits.warn { (body) } }
}

fn told(told: &Told, show: impl FnOnce(&Value) -> Markup) -> Markup {
    match told {
        Ok(value) => hit(show(value)),
        Err(trouble) if trouble.kind == Kind::NotThere => html! {},
        Err(trouble) => hit(html! { p { "What it hits cannot be told now: " (trouble.text()) } }),
    }
}

/// Whether the cluster can spare a node.
pub(in super::super) fn safe(told: &Told) -> Markup {
    match told {
        Ok(answer) => html! {
            div.hits.ok {
                p { (states::yes_no(true, "It may be stopped", "")) }
                @for note in answer.list("notes") { p { (note.as_str().unwrap_or_default()) } }
            }
        },
        Err(trouble) if trouble.code == "not_safe" => not_safe(trouble),
        Err(trouble) if trouble.kind == Kind::NotThere => html! {},
        Err(trouble) => {
            hit(html! { p { "Whether it may be stopped cannot be told now: " (trouble.text()) } })
        }
    }
}

fn not_safe(trouble: &Trouble) -> Markup {
    hit(html! {
        p { (states::yes_no(false, "", "Better not now")) }
        ul {
            @for reason in trouble.body.list("reasons") {
                li { (reason.text("text")) " " (parts::code(reason.text("code"))) }
            }
        }
        @for note in trouble.body.list("notes") { p { (note.as_str().unwrap_or_default()) } }
    })
}

fn nodes(answer: &Told) -> Markup {
    told(answer, |value| {
        let living = value.list("nodes").iter().filter(|node| node.flag("live"));
        let names: Vec<&str> =
            living.map(|node| words::node_name(node.text("record.id"))).collect();
        html! {
            p {
                strong { (words::counted(i64::try_from(names.len()).unwrap_or_default(), "node", "nodes")) }
                ": "
                (names.join(", "))
            }
            @if names.len() < 2 { p { (icon("warn")) " While it restarts, nobody is served." } }
        }
    })
}

fn leader(answer: &Told) -> Markup {
    told(answer, |value| match value.text("leaderNodeId") {
        "" => html! { p { "Nobody leads now." } },
        leader => {
            html! { p { strong { (leader) } " leads now, in term " (value.said("epoch")) "." } }
        }
    })
}

fn runs(answer: &Told) -> Markup {
    told(answer, |value| {
        let count = i64::try_from(value.list("runs").len()).unwrap_or_default();
        let more = if value.has("next") { " or more" } else { "" };
        html! { p { strong { (words::counted(count, "run", "runs")) } (more) " that waits or runs." } }
    })
}

fn run(visit: &Visit, answer: &Told) -> Markup {
    told(answer, |run| {
        html! {
            p {
                "A run of " strong { (run.text("job")) } ", " (states::run_chip(run.text("state")))
                @if let Some(started) = run.number("started_ms") {
                    ", started "
                    (parts::time(visit, Some(started)))
                }
                @if run.has("node") { " on " (words::node_name(run.text("node"))) }
            }
        }
    })
}

fn session(visit: &Visit, answer: &Told) -> Markup {
    told(answer, |session| {
        html! { p { (line(visit, session)) } }
    })
}

fn line(visit: &Visit, session: &Value) -> Markup {
    html! {
        (parts::code(&words::shortened(session.text("id"), 12))) " of "
        strong { @match session.text("user") { "" => "nobody by name", user => (user) } }
        ", changed " (parts::time(visit, session.number("changed_ms")))
        ", " (words::bytes(session.number("bytes").unwrap_or_default()))
    }
}

fn of_user(visit: &Visit, user: &str, answer: &Told) -> Markup {
    told(answer, |value| {
        let sessions = value.list("sessions");
        let count = i64::try_from(sessions.len()).unwrap_or_default();
        html! {
            p {
                strong { (words::counted(count, "session", "sessions")) @if value.has("next") { " or more" } }
                " of "
                strong { (user) }
                "."
            }
            ul { @for session in sessions.iter().take(LISTED) { li { (line(visit, session)) } } }
            @if sessions.len() > LISTED { p.soft { "and more" } }
        }
    })
}

fn count(answer: &Told) -> Markup {
    told(answer, |value| {
        html! {
            p {
                strong {
                    (words::counted(value.number("sessions").unwrap_or_default(), "session", "sessions"))
                }
                @if let Some(users) = value.number("users") {
                    " of "
                    (words::counted(users, "user", "users"))
                }
                "."
            }
        }
    })
}
