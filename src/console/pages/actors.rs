//! What the actors of all nodes do, what took them long, and one of them.

use maud::{Markup, html};
use serde_json::Value;
use understudy_runtime::admin::Role;

use super::super::api::{Told, encoded, target};
use super::super::chart::level;
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{
    self, card, cell, empty, fact, facts, heading, number_cell, section, table,
};
use super::super::visit::Visit;
use super::super::words;

/// So many rows are shown: types of actors, of all nodes or of one.
const MOST: usize = 150;
/// From so many ms on a message took long, and too long.
const LONG: f64 = 100.0;
const TOO_LONG: f64 = 1_000.0;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let (of, id) = (visit.asked("type"), visit.asked("id"));
    let one = async {
        let path = format!("/v1/actors/{}/{}", encoded(of), encoded(id));
        let wanted = !of.is_empty() && !id.is_empty() && visit.may(Role::Support);
        if wanted { Some(visit.get(&path).await) } else { None }
    };
    let (one, told, slow, nodes) = tokio::join!(
        one,
        visit.get("/v1/actors"),
        visit.get("/v1/actors/slow"),
        visit.get("/v1/nodes")
    );
    let node = visit.asked("node");
    let choose = html! {
        @if let Ok(nodes) = &nodes {
            form.inline.filter method="get" action="/console/actors" {
                label { span.sr { "Node" } (super::node_select(nodes, node, Some("all nodes"))) }
                button { "Show" }
            }
        }
    };
    let lead = "What owns the state of this cluster: how much waits for it, and how long it takes. \
        Times are those of the last one to two minutes.";
    let body = html! {
        (heading("Actors", lead, choose))
        @if let Some(one) = &one { (this_one(visit, one)) }
        section.card { (section(&told, |told| list(visit, node, told))) }
        (card("The slowest messages of the last 15 minutes", section(&slow, |slow| slowest(visit, slow))))
        (card("Background tasks", section(&told, tasks)))
    };
    Page::new("Actors", "nodes", body)
}

fn list(visit: &Visit, node: &str, told: &Value) -> Markup {
    let actors = told.list("actors").iter();
    let wanted: Vec<&Value> =
        actors.filter(|one| node.is_empty() || one.text("node") == node).collect();
    let silent: Vec<&str> = told.list("unreachable").iter().filter_map(Value::as_str).collect();
    html! {
        @if !silent.is_empty() {
            (notice("warn", "Not all nodes answered", &silent.join(", ")))
        }
        @if wanted.is_empty() {
            (empty("No node told of an actor", "This page looks again by itself."))
        } @else {
            @if wanted.len() > MOST {
                (notice("info", "Not all are shown", "Choose a node."))
            }
            (list_of(visit, &wanted[..wanted.len().min(MOST)]))
        }
    }
}

fn list_of(visit: &Visit, rows: &[&Value]) -> Markup {
    let most = |name: &str| rows.iter().map(|row| thousandths(row, name)).max().unwrap_or_default();
    let (most_waiting, most_time) = (most("waiting"), most("p99_ms"));
    let before = |place: usize| place.checked_sub(1).map_or("", |place| rows[place].text("type"));
    table(
        "Actors by type and node",
        &["Type", "Node", "#Live", "#Waiting", "#Handled", "#P50", "#P99", "#Slowest", "#Restarts"],
        html! {
            @for (place, row) in rows.iter().enumerate() {
                tr {
                    (cell("Type", html! {
                        strong { (type_link(visit, row)) }
                        @if before(place) != row.text("type") { p.soft { (row.text("meaning")) } }
                    }))
                    (cell("Node", parts::node_link(row.text("node"))))
                    (number_cell("Live", count(row, "live")))
                    (number_cell("Waiting", html! {
                        (count(row, "waiting"))
                        (level(thousandths(row, "waiting"), most_waiting, "wait"))
                    }))
                    (number_cell("Handled", count(row, "handled")))
                    (number_cell("P50", time(row, "p50_ms")))
                    (number_cell("P99", html! {
                        (time(row, "p99_ms"))
                        (level(thousandths(row, "p99_ms"), most_time, tone(row, "p99_ms")))
                    }))
                    (number_cell("Slowest", time(row, "max_ms")))
                    (number_cell("Restarts", count(row, "restarts")))
                }
            }
        },
    )
}

/// The way to one of which each node has one; of those that are many, the type alone.
fn type_link(visit: &Visit, row: &Value) -> Markup {
    let (of, node) = (row.text("type"), row.text("node"));
    html! {
        @if row.has("instead") && visit.may(Role::Support) {
            a href=(target("/console/actors", &[("type", of), ("id", node)])) { (of) }
        } @else {
            (of)
        }
    }
}

fn slowest(visit: &Visit, told: &Value) -> Markup {
    let rows = told.list("slow");
    if rows.is_empty() {
        return empty("No message was handled", "This page looks again by itself.");
    }
    table(
        "The slowest messages",
        &["#Took", "Message", "Actor", "Node", "When", ""],
        html! { @for row in rows.iter().take(20) { (slow_row(visit, row, row.text("node"))) } },
    )
}

fn slow_row(visit: &Visit, row: &Value, node: &str) -> Markup {
    let (of, actor) = (row.text("type"), row.text("actor"));
    html! {
        tr {
            (number_cell("Took", time(row, "took_ms")))
            (cell("Message", html! { (of) " " (parts::code(row.text("message"))) }))
            (cell("Actor", html! {
                @if !actor.is_empty() && visit.may(Role::Support) {
                    a href=(target("/console/actors", &[("type", of), ("id", actor)])) { (parts::code(actor)) }
                } @else {
                    (parts::code(actor))
                }
            }))
            (cell("Node", parts::node_link(node)))
            (cell("When", parts::time(visit, row.number("at_ms"))))
            td.do { div {
                @if !actor.is_empty() { (button(visit, "actors.stop", &[("id", actor), ("type", of)])) }
            } }
        }
    }
}

/// One actor, and what can be done with it.
fn this_one(visit: &Visit, told: &Told) -> Markup {
    let one = match told {
        Ok(one) => one,
        Err(trouble) => return card("The actor", parts::missing(trouble)),
    };
    if !one.at("session").is_object() {
        return single(visit, one);
    }
    let (id, actor) = (one.text("id"), one.at("actor"));
    let stop = html! {
        @if actor.is_object() { (button(visit, "actors.stop", &[("id", id), ("type", "session")])) }
    };
    let silent = one.text("unreachable");
    let body = html! {
        @if !silent.is_empty() { (notice("warn", "Its node does not answer", silent)) }
        @else if !actor.is_object() {
            (notice("info", "No node has it in memory", "Its next request brings it there."))
        }
        (facts(html! {
            (fact("Session", html! {
                a href={ "/console/sessions/" (encoded(id)) } { (parts::code(id)) }
            }))
            (fact("Node", parts::node_link(one.text("node"))))
            (fact("Waiting", actor.said("waiting")))
            (fact("Change under way", said(actor, "changing")))
            (fact("Holds a copy", said(actor, "owns")))
            (fact("Version", actor.said("version")))
            (fact("Epoch", actor.said("epoch")))
            (fact("In memory for", parts::span(actor.number("age_ms"))))
            (fact("Last used before", parts::span(actor.number("idle_ms"))))
            (fact("Size", one.number("session.bytes").map(words::bytes).unwrap_or_default()))
        }))
    };
    parts::wide_card("The actor of a session", stop, body)
}

/// An actor of which its node has one.
fn single(visit: &Visit, one: &Value) -> Markup {
    let node = one.text("node");
    let slow = one.list("slow");
    let body = html! {
        (facts(html! {
            (fact("Does", one.text("meaning")))
            (fact("Node", parts::node_link(node)))
            (fact("Lives", count(one, "live")))
            (fact("Instead of stopping it", one.text("instead")))
        }))
        @if !slow.is_empty() {
            (table(
                "Its slowest messages",
                &["#Took", "Message", "Actor", "Node", "When", ""],
                html! { @for row in slow.iter().take(20) { (slow_row(visit, row, node)) } },
            ))
        }
    };
    card(&format!("The {} of {node}", one.text("type")), body)
}

/// The tasks of all nodes, by name.
fn tasks(told: &Value) -> Markup {
    let mut names: Vec<&str> = told.list("tasks").iter().map(|task| task.text("name")).collect();
    names.sort_unstable();
    names.dedup();
    let sum = |name: &str, what: &str| {
        let tasks = told.list("tasks").iter().filter(|task| task.text("name") == name);
        words::count(tasks.filter_map(|task| task.number(what)).sum())
    };
    if names.is_empty() {
        return empty("No node told of a task", "This page looks again by itself.");
    }
    table(
        "Background tasks of all nodes",
        &["Task", "#Running", "#Restarts"],
        html! {
            @for name in &names {
                tr {
                    (cell("Task", *name))
                    (number_cell("Running", sum(name, "running")))
                    (number_cell("Restarts", sum(name, "restarts")))
                }
            }
        },
    )
}

fn said(actor: &Value, name: &str) -> &'static str {
    match actor.at(name).as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    }
}

fn count(row: &Value, name: &str) -> String {
    row.number(name).map(words::count).unwrap_or_default()
}

fn time(row: &Value, name: &str) -> String {
    row.at(name).as_f64().map(words::short_span).unwrap_or_default()
}

/// A number in whole thousandths, to be compared.
fn thousandths(row: &Value, name: &str) -> i64 {
    let thousandths = row.at(name).as_f64().unwrap_or_default() * 1_000.0;
    format!("{thousandths:.0}").parse().unwrap_or_default()
}

fn tone(row: &Value, name: &str) -> &'static str {
    match row.at(name).as_f64().unwrap_or_default() {
        long if long >= TOO_LONG => "bad",
        long if long >= LONG => "warn",
        _ => "go",
    }
}
