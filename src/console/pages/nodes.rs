//! The nodes of the cluster, who of them leads, and the rolling restart.

use maud::{Markup, html};
use serde_json::Value;
use understudy_runtime::admin::Role;

use super::super::api::{Kind, Told, encoded};
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, number_cell, section, table, wide_card};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let (nodes, leader, scheduler, restart) = tokio::join!(
        visit.get("/v1/nodes"),
        visit.get("/v1/leader"),
        visit.get("/v1/scheduler"),
        visit.get("/v1/cluster/rolling-restart"),
    );
    let seen = Seen {
        leader: leader.as_ref().map(|leader| leader.text("leaderNodeUuid")).unwrap_or_default(),
        aside: aside(&scheduler),
    };
    let body = html! {
        (heading(
            "Nodes",
            "Every process that takes part, and what it does.",
            button(visit, "cluster.restart", &[]),
        ))
        (rolling_restart(visit, &restart))
        section.card {
            (section(&nodes, |nodes| list(visit, nodes, &seen)))
        }
    };
    Page::new("Nodes", "nodes leader", body)
}

struct Seen<'a> {
    leader: &'a str,
    /// Those that neither lead nor take runs, with the reason.
    aside: Vec<(&'a str, &'a str)>,
}

/// Nodes that were set aside, and why.
fn aside(scheduler: &Told) -> Vec<(&str, &str)> {
    let maintenance = scheduler.as_ref().map(|told| told.list("maintenance")).unwrap_or_default();
    maintenance.iter().map(|one| (one.text("node"), one.text("why"))).collect()
}

fn list(visit: &Visit, nodes: &Value, seen: &Seen<'_>) -> Markup {
    let all = nodes.list("nodes");
    if all.is_empty() {
        return empty("No node is known", "The list is kept in Redis: it may be away.");
    }
    let versions: Vec<&str> = all.iter().map(|node| node.text("record.version")).collect();
    let skewed = versions.iter().any(|version| *version != versions[0]);
    html! {
        @if skewed {
            (notice(
                "warn",
                "Nodes run different versions",
                "That is fine during an upgrade, and not for long.",
            ))
        }
        (table("Nodes", &["Node", "State", "Version", "#Up for", "#Last heard", "Address", ""], html! {
            @for node in all { (row(visit, node, seen)) }
        }))
    }
}

fn row(visit: &Visit, node: &Value, seen: &Seen<'_>) -> Markup {
    let (id, record) = (node.text("record.id"), node.at("record"));
    let aside = seen.aside.iter().find(|(name, _)| *name == words::node_name(id));
    let started = record.number("started_ms");
    html! {
        tr {
            (cell("Node", html! {
                span.row {
                    strong { (parts::node_link(id)) }
                    @if id == seen.leader { (states::leader_chip()) }
                    @if node.flag("this") { span.tag { "this page" } }
                }
                @for (name, value) in record.entries("labels") {
                    span.tag { (name) "=" (value.as_str().unwrap_or_default()) }
                    " "
                }
            }))
            (cell("State", html! {
                (states::node_chip(node))
                @if let Some((_, why)) = aside {
                    " "
                    (states::chip(Look { tone: "warn", icon: "pause" }, "set aside"))
                    p.soft.cut { (why) }
                }
            }))
            (cell("Version", record.text("version")))
            (number_cell("Up for", started.map(|at| words::span(visit.now_ms - at)).unwrap_or_default()))
            (number_cell("Last heard", html! {
                (words::span(node.number("age_ms").unwrap_or_default()))
                " ago"
            }))
            (cell("Address", html! {
                (record.text("public_addr"))
                br;
                span.soft { (record.text("host")) " · pid " (record.said("pid")) }
            }))
            td.do { div { (actions(visit, node, aside.is_some())) } }
        }
    }
}

/// What can be done with a node.
fn actions(visit: &Visit, node: &Value, aside: bool) -> Markup {
    let name = words::node_name(node.text("record.id"));
    let values = [("name", name)];
    let drained = states::node_state(node).1 == "drained";
    html! {
        @if node.flag("live") {
            @if drained {
                (button(visit, "nodes.undrain", &values))
            } @else {
                (button(visit, "nodes.drain", &values))
            }
            @if aside { (button(visit, "nodes.resume", &values)) }
            (button(visit, "nodes.restart", &values))
        }
        @if !visit.may(Role::Operator) { a.button href={ "/console/nodes/" (encoded(name)) } { "Look" } }
    }
}

/// How far a rolling restart is, if there is one.
fn rolling_restart(visit: &Visit, told: &Told) -> Markup {
    let restart = match told {
        Ok(restart) if restart.has("run") => restart,
        Err(trouble) if trouble.kind == Kind::Away => return parts::missing(trouble),
        Ok(_) | Err(_) => return html! {},
    };
    let run = restart.number("run").unwrap_or_default();
    let link = html! { (parts::run_link(run)) " " (states::run_chip(restart.text("state"))) };
    wide_card(
        "Rolling restart",
        link,
        html! {
            ol.steps {
                @for node in restart.list("nodes") {
                    li {
                        (step(node.text("state")))
                        " "
                        (parts::node_link(node.text("node")))
                        " "
                        span.soft { (parts::time(visit, node.number("since_ms"))) }
                    }
                }
            }
        },
    )
}

fn step(state: &str) -> Markup {
    let look = match state {
        "back" => Look { tone: "ok", icon: "ok" },
        "draining" => Look { tone: "go", icon: "again" },
        "gone" => Look { tone: "warn", icon: "off" },
        _ => Look { tone: "idle", icon: "wait" },
    };
    states::chip(look, state)
}
