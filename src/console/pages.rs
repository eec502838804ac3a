//! The pages: each asks the API for what it shows, all at once, and shows what came.

use actix_web::http::StatusCode;
use maud::{Markup, html};
use serde_json::Value;

use super::api::{Kind, Trouble};
use super::layout::Page;
use super::look::Look as _;
use super::visit::Visit;
use super::{parts, words};

pub(super) mod actors;
pub(super) mod audit;
pub(super) mod caches;
pub(super) mod configuration;
pub(super) mod doctor;
pub(super) mod doing_now;
pub(super) mod files;
pub(super) mod job;
pub(super) mod job_edit;
pub(super) mod jobs;
pub(super) mod leader;
pub(super) mod locks;
pub(super) mod log;
pub(super) mod maintenance;
pub(super) mod migrations;
pub(super) mod node;
pub(super) mod nodes;
pub(super) mod overview;
pub(super) mod problems;
pub(super) mod requests;
pub(super) mod run;
pub(super) mod runs;
pub(super) mod session;
pub(super) mod sessions;
pub(super) mod settings;
pub(super) mod tokens;

/// A choice of nodes; `all` is the first, when there is one for all of them.
pub(super) fn node_select(nodes: &Value, chosen: &str, all: Option<&str>) -> Markup {
    let names: Vec<&str> = nodes
        .list("nodes")
        .iter()
        .filter(|node| node.flag("live"))
        .map(|node| words::node_name(node.text("record.id")))
        .collect();
    html! {
        select name="node" {
            @if let Some(all) = all { option value="" { (all) } }
            @for name in &names { option value=(name) selected[*name == chosen] { (name) } }
            @if !chosen.is_empty() && !names.contains(&chosen) { option value=(chosen) selected { (chosen) } }
        }
    }
}

/// The page of an address that there is not.
pub(super) fn lost(visit: &Visit) -> Page {
    let hint = html! {
        code { (visit.path) }
        " is no page of this console. "
        a href="/console" { "To the overview" }
    };
    let body = html! {
        (parts::heading("Not found", parts::nothing(), parts::nothing()))
        (parts::empty("There is no such page", hint))
    };
    Page::still("Not found", body).with_status(StatusCode::NOT_FOUND)
}

/// The page of something that the API cannot tell of.
pub(super) fn gone(title: &str, trouble: &Trouble) -> Page {
    let status = match trouble.kind {
        Kind::Unknown => StatusCode::NOT_FOUND,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotThere | Kind::SignedOut | Kind::Away | Kind::Refused => StatusCode::OK,
    };
    let body = html! {
        (parts::heading(title, parts::nothing(), parts::nothing()))
        (parts::missing(trouble))
    };
    // What is away may come back: it looks again.
    Page::new(title, "*", body).with_status(status)
}
