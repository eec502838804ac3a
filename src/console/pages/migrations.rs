//! The migrations of the database, as the node that shows the page knows them.

use maud::{Markup, html};
use serde_json::Value;

use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, section, table};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/migrations").await;
    let body = html! {
        (heading(
            "Migrations",
            "What was done to the tables of the database, by which version of the program.",
            html! { a.button href="/console/config" { "Options" } },
        ))
        section.card { (section(&told, |told| list(visit, told))) }
    };
    Page::new("Migrations", "nodes", body)
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let migrations = told.list("migrations");
    let pending = told.number("pending").unwrap_or_default();
    html! {
        @if pending > 0 {
            (notice(
                "warn",
                &format!("{} missing", words::counted(pending, "migration is", "migrations are")),
                "A node that waits for them applies them when it is told to: understudy migrate.",
            ))
        }
        @if migrations.is_empty() { (empty("There are no migrations", "")) }
        @else {
            (table("Migrations", &["Migration", "State", "Applied", "Version"], html! {
                @for migration in migrations {
                    tr {
                        (cell("Migration", parts::code(migration.text("name"))))
                        (cell("State", state_chip(migration.text("state"))))
                        (cell("Applied", parts::time(visit, migration.number("applied_ms"))))
                        (cell("Version", migration.text("program")))
                    }
                }
            }))
        }
        p.soft { "The program of this node has version " (told.text("program")) "." }
    }
}

fn state_chip(state: &str) -> Markup {
    match state {
        "applied" => states::chip(Look { tone: "ok", icon: "ok" }, "applied"),
        "pending" => states::chip(Look { tone: "warn", icon: "wait" }, "pending"),
        "unknown" => states::chip(Look { tone: "warn", icon: "warn" }, "of a newer program"),
        other => states::plain_chip(other),
    }
}
