//! Options that can be changed while the cluster runs, with who changed them and until when.

use maud::{Markup, html};
use serde_json::Value;
use understudy_runtime::admin::Role;

use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, section, table};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/settings").await;
    let body = html! {
        (heading(
            "Settings",
            "What can be changed while the cluster runs, on all nodes at once. Everything else is an option and needs a restart."
            ,
            html! { a.button href="/console/config" { "Options" } },
        ))
        section.card { (section(&told, |told| list(visit, told))) }
    };
    Page::new("Settings", "settings", body)
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let settings = told.list("settings");
    html! {
        @if settings.is_empty() { (empty("There are no settings", "")) }
        @else {
            (table("Settings", &["Setting", "Value", "Changed", "Until", ""], html! {
                @for setting in settings { (row(visit, setting)) }
            }))
        }
        @if told.has("revision") { p.soft { "Revision " (told.said("revision")) } }
    }
}

fn row(visit: &Visit, setting: &Value) -> Markup {
    let (name, value, usual) =
        (setting.text("name"), setting.said("value"), setting.said("default"));
    let changed = setting.has("by") && !setting.text("by").is_empty();
    html! {
        tr {
            (cell("Setting", html! { strong { (parts::code(name)) } p.soft { (setting.text("meaning")) } }))
            (cell("Value", html! {
                code.value { @if value.is_empty() { "not set" } @else { (value) } }
                @if value != usual && setting.has("default") {
                    p.soft {
                        "by the options: "
                        (parts::code(if usual.is_empty() { "not set" } else { &usual }))
                    }
                }
            }))
            (cell("Changed", html! {
                @if changed {
                    (parts::time(visit, setting.number("at_ms"))) " by " (setting.text("by"))
                    @if !setting.text("why").is_empty() { p.soft.cut { (setting.text("why")) } }
                } @else { span.soft { "never" } }
            }))
            (cell("Until", html! {
                @match setting.number("until_ms") {
                    Some(at) => (parts::time(visit, Some(at))),
                    None if changed => "changed again",
                    None => span.soft { "–" },
                }
            }))
            td.do { div {
                @if setting.has("resource") {
                    a.button href="/console/maintenance" { "Maintenance" }
                } @else if may_change(visit, setting) {
                    (button(visit, "settings.set", &[("name", name), ("value", &value)]))
                    @if changed { (button(visit, "settings.reset", &[("name", name)])) }
                }
            } }
        }
    }
}

/// Whether this role may; what the log tells may be about people, so that only an admin changes it.
fn may_change(visit: &Visit, setting: &Value) -> bool {
    let needed = match (setting.text("role"), setting.text("name")) {
        ("admin", _) | ("", "log_filter") => Role::Admin,
        _ => Role::Operator,
    };
    visit.may(needed)
}

/// A time until which something counts.
pub(super) fn until(visit: &Visit, value: &Value) -> String {
    value
        .number("until_ms")
        .map(|at| format!(" It ends {}.", words::distance(at, visit.now_ms)))
        .unwrap_or_default()
}
