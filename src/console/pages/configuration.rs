//! Options: those of one node with where they come from, and in what nodes differ.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{encoded, target};
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, section, table};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows in what the nodes differ.
pub(in super::super) async fn drift(visit: &Visit) -> Page {
    let told = visit.get("/v1/config/drift").await;
    let body = html! {
        (heading(
            "Configuration",
            "Nodes of a cluster must be set up alike, but for what is their own.",
            html! {
                a.button href={ "/console/nodes/" (encoded(&visit.console.backstage.node())) "/config" } {
                    "All options of this node"
                }
                a.button href="/console/migrations" { "Migrations" }
            },
        ))
        (section(&told, differences))
    };
    Page::new("Configuration", "nodes problems", body)
}

fn differences(told: &Value) -> Markup {
    let fingerprints = told.entries("fingerprints");
    let unreachable: Vec<&str> =
        told.list("unreachable").iter().filter_map(Value::as_str).collect();
    let differences = told.list("differences");
    let same = !told.flag("drift") && differences.is_empty();
    html! {
        @if !unreachable.is_empty() {
            (notice("warn", "Not compared", &format!("{}: no answer.", unreachable.join(", "))))
        }
        @if same && fingerprints.len() > 1 { (notice("ok", "All nodes are set up alike", "")) }
        @if same && fingerprints.len() < 2 {
            (notice("info", "There is one node", "Nothing to compare it with."))
        }
        @if !same {
            (notice(
                "bad",
                "Nodes are set up differently",
                "Give all of them the same options and restart those that are wrong, one at a time.",
            ))
        }
        section.card {
            div.head { h2 { "Fingerprints" } }
            ul.lines {
                @for (node, fingerprint) in &fingerprints {
                    li {
                        (parts::node_link(node))
                        (parts::code(&words::shortened(fingerprint.as_str().unwrap_or_default(), 16)))
                    }
                }
            }
        }
        @if !differences.is_empty() {
            section.card {
                div.head { h2 { "Differences" } span.soft { (differences.len()) } }
                @for difference in differences { (difference_of(difference)) }
            }
        }
    }
}

/// One option with what each node has: those that agree stand together, the smaller group is marked.
fn difference_of(difference: &Value) -> Markup {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (node, value) in difference.entries("values") {
        let value = value.as_str().unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, nodes)) => nodes.push(node),
            None => groups.push((value, vec![node])),
        }
    }
    groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    html! {
        div.difference {
            h3 { (parts::code(difference.text("option"))) }
            @for (place, (value, nodes)) in groups.iter().enumerate() {
                div.value {
                    @if place == 0 {
                        (states::chip(Look { tone: "idle", icon: "ok" }, "most"))
                    } @else {
                        (states::chip(Look { tone: "bad", icon: "bad" }, "differs"))
                    }
                    code { @if value.is_empty() { "not set" } @else { (value) } }
                    span.soft { (nodes.join(", ")) }
                }
            }
        }
    }
}

/// Shows all options of a node.
pub(in super::super) async fn of_node(visit: &Visit) -> Page {
    let name = visit.name("name");
    let told = visit.get(&target("/v1/config", &[("node", name)])).await;
    let body = html! {
        (heading(
            html! { "Options of " (name) },
            "As they are in effect; secrets are stars.",
            html! {
                a.button href={ "/console/nodes/" (encoded(name)) } { "The node" }
                a.button href="/console/config" { "Compare nodes" }
            },
        ))
        (section(&told, options))
    };
    Page::still(format!("Options of {name}"), body)
}

fn options(told: &Value) -> Markup {
    let local: Vec<&str> = told.list("node_local").iter().filter_map(Value::as_str).collect();
    let options = told.entries("options");
    html! {
        section.card {
            div.head {
                h2 { (words::counted(i64::try_from(options.len()).unwrap_or_default(), "option", "options")) }
                span.soft { "fingerprint " (parts::code(told.text("fingerprint"))) }
            }
            @if options.is_empty() { (empty("No options were told", "")) }
            @else {
                label.filter {
                    span.sr { "Only those with" }
                    input #filter type="search" placeholder="Only those with …" data-filter="options";
                }
                div #options {
                    (table("Options", &["Option", "Value", "From"], html! {
                        @for (name, value) in &options {
                            tr {
                                (cell("Option", html! {
                                    (parts::code(name))
                                    @if local.contains(name) { " " span.tag { "its own" } }
                                }))
                                (cell("Value", html! {
                                    code.value {
                                        (value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                                    }
                                }))
                                (cell("From", source(told.at("sources").text(name))))
                            }
                        }
                    }))
                }
            }
        }
    }
}

fn source(source: &str) -> Markup {
    html! {
        @if source == "default" || source.is_empty() {
            span.soft { (source) }
        } @else {
            span.tag { (source) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_that_agree_stand_together_and_the_odd_one_is_marked() {
        let told = difference_of(&json!({
            "option": "UNDERSTUDY_SESSION_TTL_S", "values": { "a": "60", "b": "<b>", "c": "60" }
        }));
        assert!(told.0.contains("a, c") && told.0.contains("&lt;b&gt;"), "{}", told.0);
        assert_eq!(told.0.matches("differs").count(), 1);
    }
}
