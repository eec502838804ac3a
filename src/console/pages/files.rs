//! Files that every node sees: how much is where. What is in them is shown to nobody.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{encoded, target};
use super::super::doing::button;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, cell, empty, heading, number_cell, pager, section, table};
use super::super::states::verdict_chip;
use super::super::visit::Visit;
use super::super::words;

/// So many are on a page.
const LIMIT: &str = "50";
/// So much of a reason stands in a table, in characters.
const REASON: usize = 120;

/// Shows the page: the spaces, the files of one, or those that nobody uses.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let space = visit.asked("space");
    let query = [("after", visit.asked("after")), ("limit", LIMIT)];
    if !visit.asked("unused").is_empty() {
        return unused(visit, &query).await;
    }
    if space.is_empty() {
        let told = visit.get(&target("/v1/files", &query)).await;
        let about = "Spaces and how much is in them. What a file holds is not shown.";
        let body = html! {
            (heading("Files", about, html! {
                a.button href="/console/files?unused=yes" { "Used by nobody" }
            }))
            section.card { (section(&told, |told| spaces(visit, told))) }
        };
        return Page::new("Files", "", body);
    }
    let told = visit.get(&target(&format!("/v1/files/{}", encoded(space)), &query)).await;
    let back = html! { a.button href="/console/files" { "All spaces" } };
    let body = html! {
        (heading("Files", html! { "In the space " strong { (space) } "." }, back))
        section.card { (section(&told, |told| files(visit, space, told))) }
    };
    Page::new("Files", "", body)
}

/// Those that nobody uses, where they are to be removed.
async fn unused(visit: &Visit, query: &[(&str, &str)]) -> Page {
    let told = visit.get(&target("/v1/files-orphans", query)).await;
    let about = "In spaces of which the application said so, files that nobody uses are removed after a while.";
    let actions = html! {
        a.button href="/console/files" { "All spaces" }
        (button(visit, "files.gc", &[]))
    };
    let body = html! {
        (heading("Files that nobody uses", about, actions))
        section.card { (section(&told, |told| orphans(visit, told))) }
    };
    Page::new("Files that nobody uses", "", body)
}

fn orphans(visit: &Visit, told: &Value) -> Markup {
    let orphans = told.list("orphans");
    html! {
        @if orphans.is_empty() {
            (empty("There are none here", "The application says who uses a file with `keep`."))
        } @else {
            (table("Files", &["File", "Space", "#Unused since", "#Size"], html! {
                @for file in orphans {
                    tr {
                        (cell("File", html! { strong { (file.text("name")) } }))
                        (cell("Space", file.text("space")))
                        (number_cell("Unused since", parts::time(visit, file.number("unused_ms"))))
                        (number_cell("Size", size(file)))
                    }
                }
            }))
        }
        (pager(visit, "after", told.text("next")))
    }
}

fn size(of: &Value) -> String {
    of.number("bytes").map(words::bytes).unwrap_or_default()
}

fn spaces(visit: &Visit, told: &Value) -> Markup {
    let spaces = told.list("spaces");
    if spaces.is_empty() {
        return empty("There are no files", "A handler writes one with `Files`.");
    }
    html! {
        (table("Spaces", &["Space", "#Files", "#Size"], html! {
            @for space in spaces {
                tr {
                    (cell("Space", html! {
                        a href={ "/console/files?space=" (encoded(space.text("name"))) } {
                            (space.text("name"))
                        }
                    }))
                    (number_cell("Files", words::count(space.number("files").unwrap_or_default())))
                    (number_cell("Size", size(space)))
                }
            }
        }))
        (pager(visit, "after", told.text("next")))
    }
}

fn files(visit: &Visit, space: &str, told: &Value) -> Markup {
    let files = told.list("files");
    if files.is_empty() {
        return empty("There is no file in this space", "A space is there while it has a file.");
    }
    let is_examined = files.iter().any(|file| file.has("verdict"));
    let columns: &[&str] = if is_examined {
        &["File", "Type", "Verdict", "#Written", "#Size", ""]
    } else {
        &["File", "Type", "#Written", "#Size", ""]
    };
    html! {
        (table("Files", columns, html! {
            @for file in files {
                tr {
                    (cell("File", html! { strong { (file.text("name")) } }))
                    (cell("Type", file.text("content_type")))
                    @if is_examined { (cell("Verdict", verdict(visit, file))) }
                    (number_cell("Written", parts::time(visit, file.number("created_ms"))))
                    (number_cell("Size", size(file)))
                    td.do { div {
                        (button(visit, "files.delete", &[("name", file.text("name")), ("space", space)]))
                    } }
                }
            }
        }))
        (pager(visit, "after", told.text("next")))
    }
}

/// What was said of a file, why, and when; until then it is served to nobody.
fn verdict(visit: &Visit, file: &Value) -> Markup {
    let reason = file.text("verdict.reason");
    html! {
        (verdict_chip(file.text("verdict.state")))
        @if !reason.is_empty() {
            " " span title=(reason) { (words::shortened(reason, REASON)) }
        }
        @if file.has("verdict.at_ms") {
            " " span.soft { (parts::time(visit, file.number("verdict.at_ms"))) }
        }
    }
}
