//! One node, whichever node is asked: what it is doing, why it is not ready, and whether it can be spared.

use maud::{Markup, html};
use serde_json::Value;
use understudy_runtime::admin::Role;

use super::super::api::{Kind, Told, encoded};
use super::super::doing::{self, button};
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, card, empty, fact, facts, heading, wide_card};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let name = visit.name("name");
    let path = format!("/v1/nodes/{}", encoded(name));
    let safe_path = format!("{path}/safe-to-stop");
    let (told, list, safe, leader, scheduler) = tokio::join!(
        visit.get(&path),
        visit.get("/v1/nodes"),
        visit.get(&safe_path),
        visit.get("/v1/leader"),
        visit.get("/v1/scheduler"),
    );
    let node = match (&told, in_list(&list, name)) {
        (Ok(node), _) => node.clone(),
        // An older node, or one that cannot be asked: the list tells something.
        (Err(trouble), Some(node)) if trouble.kind != Kind::Unknown => node,
        (Err(trouble), _) => return super::gone(name, trouble),
    };
    let leads = leader.as_ref().is_ok_and(|leader| leader.text("leaderNodeId") == name);
    let aside = in_maintenance(&scheduler, name);
    let body = html! {
        (heading(
            html! { span.row { (name) (states::node_chip(&node)) @if leads { (states::leader_chip()) } } },
            about(&node),
            actions(visit, &node, aside.is_some()),
        ))
        (notices(visit, &node, aside.as_ref()))
        @if let Err(trouble) = &told { (notice("warn", "Not all is known of this node", &trouble.text())) }
        div.columns {
            div.stack { (state_card(visit, &node)) (services_card(&node)) }
            div.stack { (spare_card(&safe)) (record_card(visit, &node)) }
        }
        p {
            a href={ "/console/nodes/" (encoded(name)) "/config" } { "All options in effect" }
            @if visit.may(Role::Admin) {
                " · "
                a href={ "/console/nodes/" (encoded(name)) "/tasks" } { "What it is doing" }
            }
        }
    };
    Page::new(format!("Node {name}"), "nodes leader problems settings", body)
}

fn in_list(list: &Told, name: &str) -> Option<Value> {
    let nodes = list.as_ref().ok()?.list("nodes");
    nodes.iter().find(|node| words::node_name(node.text("record.id")) == name).cloned()
}

fn in_maintenance(scheduler: &Told, name: &str) -> Option<Value> {
    let all = scheduler.as_ref().ok()?.list("maintenance");
    all.iter().find(|one| one.text("node") == name).cloned()
}

fn about(node: &Value) -> String {
    let labels: Vec<String> = node
        .entries("record.labels")
        .into_iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let parts = [node.text("record.host").to_owned(), labels.join(" ")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn drained(node: &Value) -> &Value {
    if node.has("detail.drained") { node.at("detail.drained") } else { node.at("record.drained") }
}

fn actions(visit: &Visit, node: &Value, aside: bool) -> Markup {
    let name = words::node_name(node.text("record.id"));
    let values = [("name", name)];
    html! {
        @if node.flag("live") {
            @if drained(node).is_null() {
                (button(visit, "nodes.drain", &values))
            } @else {
                (button(visit, "nodes.undrain", &values))
            }
            @if aside {
                (button(visit, "nodes.maintenance_off", &values))
            } @else {
                (button(visit, "nodes.maintenance_on", &values))
            }
            (button(visit, "nodes.restart", &values))
        }
    }
}

fn notices(visit: &Visit, node: &Value, aside: Option<&Value>) -> Markup {
    let drained = drained(node);
    html! {
        @if !node.flag("live") {
            (notice(
                "bad",
                "This node is silent",
                "It has stopped, or cannot reach Redis. What is shown is what it told last.",
            ))
        }
        @if !drained.is_null() {
            (notice("warn", "Drained", &said_by(visit, drained)))
        }
        @if let Some(aside) = aside {
            (notice("warn", "Set aside: it neither leads nor runs jobs", &said_by(visit, aside)))
        }
        @for reason in node.list("detail.reasons") {
            (notice("bad", &format!("Not ready: {}", reason.text("code")), reason.text("detail")))
        }
    }
}

/// Who said it, when and why.
pub(in super::super) fn said_by(visit: &Visit, switch: &Value) -> String {
    let at = switch.number("at_ms").or(switch.number("since_ms"));
    let when = at.map(|at| words::distance(at, visit.now_ms)).unwrap_or_default();
    let why = match switch.text("why") {
        "" => String::new(),
        why => format!(": {why}"),
    };
    format!("by {}, {when}{why}", switch.text("by"))
}

fn state_card(visit: &Visit, node: &Value) -> Markup {
    let detail = node.at("detail");
    if detail.is_null() {
        return card(
            "State",
            empty("The node was not asked", "It is silent, or of a version that does not tell."),
        );
    }
    let up = detail.number("uptime_seconds").map(|seconds| words::span(seconds * 1_000));
    let bytes = |name: &str| detail.number(name).map(words::bytes).unwrap_or_default();
    let count = |name: &str| detail.number(name).map(words::count).unwrap_or_default();
    card(
        "State",
        facts(html! {
            (fact("Phase", words::plain(detail.text("phase"))))
            (fact("Ready", states::yes_no(detail.flag("ready"), "ready", "not ready")))
            (fact("Up for", up.unwrap_or_default()))
            (fact("Requests under way", count("requests_under_way")))
            (fact("Memory", bytes("rss_bytes")))
            (fact("Open files", count("open_files")))
            (fact(
                "Processor time",
                detail.number("cpu_seconds").map(|s| words::span(s * 1_000)).unwrap_or_default(),
            ))
            (fact("Redis", redis(detail)))
            (fact(
                "Database",
                link(
                    detail.at("database").is_object().then(|| detail.flag("database.up")),
                    "reached",
                    "away",
                ),
            ))
            (fact("Pauses", pauses(visit, detail)))
        }),
    )
}

/// How a store is reached; nothing when there is none.
fn link(up: Option<bool>, yes: &str, no: &str) -> Markup {
    html! { @if let Some(up) = up {
        @if up {
            (states::chip(Look { tone: "ok", icon: "ok" }, yes))
        } @else {
            (states::chip(Look { tone: "bad", icon: "bad" }, no))
        }
    } }
}

fn redis(detail: &Value) -> Markup {
    let redis = detail.at("redis");
    if redis.is_null() {
        return html! { "not used" };
    }
    let rtt = redis.at("rtt_ms").as_f64().map(|ms| format!("{ms:.1} ms"));
    html! {
        (link(Some(redis.flag("connected")), "reached", "away"))
        @if let Some(rtt) = rtt { " in " (rtt) }
    }
}

fn pauses(visit: &Visit, detail: &Value) -> Markup {
    let pauses = detail.at("pauses");
    let count = pauses.number("count").unwrap_or_default();
    html! {
        @if pauses.is_null() {} @else if count == 0 { "none" } @else {
            (words::count(count)) ", the longest " (parts::span(pauses.number("longest_ms")))
            ", the last " (parts::time(visit, pauses.number("last_ms")))
        }
    }
}

fn spare_card(safe: &Told) -> Markup {
    let answer = doing::safe_to_stop(safe);
    card(
        "May I stop it?",
        html! {
            @if answer.0.is_empty() {
                (empty("Not available on this node", "Its version cannot tell."))
            } @else {
                (answer)
            }
        },
    )
}

fn record_card(visit: &Visit, node: &Value) -> Markup {
    let record = node.at("record");
    let id = record.text("id");
    card(
        "What it says of itself",
        facts(html! {
            (fact("This life of it", parts::code(id)))
            (fact("Version", record.text("version")))
            (fact("Host and process", html! { (record.text("host")) " · pid " (record.said("pid")) }))
            (fact("Started", parts::both(visit, record.number("started_ms"))))
            (fact("Public address", record.text("public_addr")))
            (fact("Admin address", record.text("admin_addr")))
            (fact("Options", parts::code(&words::shortened(record.text("config_hash"), 12))))
            (fact("Last heard", html! { (parts::span(node.number("age_ms"))) " ago" }))
        }),
    )
}

fn services_card(node: &Value) -> Markup {
    let services = node.list("detail.services");
    let count = html! { span.soft { (services.len()) } };
    wide_card(
        "Services",
        count,
        html! {
            @if services.is_empty() { (empty("Nothing is known", "The node was not asked.")) }
            ul.lines {
                @for service in services {
                    li {
                        span {
                            (service.text("name"))
                            @if service.has("reason") { p.soft { (service.text("reason")) } }
                        }
                        (states::chip(match service.text("health") {
                            "ready" => Look { tone: "ok", icon: "ok" },
                            "degraded" => Look { tone: "warn", icon: "warn" },
                            _ => Look { tone: "bad", icon: "bad" },
                        }, service.text("health")))
                    }
                }
            }
        },
    )
}
