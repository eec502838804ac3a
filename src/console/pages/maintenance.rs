//! Maintenance mode: for the whole cluster or for one node, with what visitors are told.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::Told;
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, card, cell, empty, fact, facts, heading, section, table};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/maintenance").await;
    let body = html! {
        (heading("Maintenance", "Keep visitors from changing anything, or send them away for a while, with a message.", html! {
            (button(
                visit,
                "maintenance.set",
                &prefilled(&told).each_ref().map(|(name, value)| (*name, value.as_str())),
            ))
            (button(visit, "maintenance.bypass", &[]))
        }))
        (mode_notice(&told))
        div.columns {
            (card("The cluster", section(&told, |told| present(visit, told))))
            (card("Single nodes", section(&told, |told| nodes(visit, told))))
        }
    };
    Page::new("Maintenance", "settings", body)
}

/// The form begins with what counts.
fn prefilled(told: &Told) -> [(&'static str, String); 3] {
    let empty = Value::Null;
    let told = told.as_ref().unwrap_or(&empty);
    [
        ("mode", told.text("mode").to_owned()),
        ("message", told.text("message").to_owned()),
        ("retry_after_s", told.said("retry_after_s")),
    ]
}

/// That the cluster is in maintenance, on pages where somebody would wonder.
pub(super) fn mode_notice(told: &Told) -> Markup {
    match told {
        Ok(told) if !matches!(told.text("mode"), "" | "off") => notice(
            "warn",
            &format!("Maintenance: {}", words::plain(told.text("mode"))),
            told.text("message"),
        ),
        Ok(_) | Err(_) => html! {},
    }
}

fn chip(mode: &str) -> Markup {
    match mode {
        "" | "off" => states::chip(Look { tone: "ok", icon: "ok" }, "off"),
        "read_only" => states::chip(Look { tone: "warn", icon: "pause" }, "read only"),
        mode => states::chip(Look { tone: "bad", icon: "off" }, mode),
    }
}

fn present(visit: &Visit, told: &Value) -> Markup {
    facts(html! {
        (fact("Mode", chip(told.text("mode"))))
        (fact("Message for visitors", told.text("message")))
        (fact(
            "Come back after",
            told.number("retry_after_s").map(|s| words::span(s * 1_000)).unwrap_or_default(),
        ))
        (fact("Changed", by(visit, told)))
        (fact("Ends", parts::both(visit, told.number("until_ms"))))
        (fact("Bypass", if told.flag("bypass") { "there is one" } else { "there is none" }))
    })
}

fn by(visit: &Visit, told: &Value) -> String {
    if told.text("by").is_empty() { String::new() } else { super::node::said_by(visit, told) }
}

fn nodes(visit: &Visit, told: &Value) -> Markup {
    let nodes = told.entries("nodes");
    html! {
        @if nodes.is_empty() {
            (empty("All nodes are as the cluster", "A mode can be set for one node: name it in the form."))
        }
        @else {
            (table("Nodes", &["Node", "Mode", "Changed", ""], html! {
                @for (name, mode) in nodes {
                    tr {
                        (cell("Node", parts::node_link(name)))
                        (cell("Mode", html! {
                            (chip(mode.text("mode")))
                            @if !mode.text("message").is_empty() { p.soft.cut { (mode.text("message")) } }
                        }))
                        (cell("Changed", html! { (by(visit, mode)) (super::settings::until(visit, mode)) }))
                        td.do {
                            div { (button(visit, "maintenance.set", &[("node", name), ("mode", "off")])) }
                        }
                    }
                }
            }))
        }
    }
}
