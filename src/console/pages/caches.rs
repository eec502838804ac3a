//! The regions of the cache, on all nodes.

use maud::{Markup, html};
use serde_json::Value;

use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{cell, empty, heading, number_cell, section, table};
use super::super::visit::Visit;
use super::super::words;

/// So many rows are shown.
const MOST: usize = 150;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let told = visit.get("/v1/caches").await;
    let body = html! {
        (heading(
            "Caches",
            "What is dear to load, kept in the memory of each node and in Redis for all of them.",
            button(visit, "caches.clear_all", &[]),
        ))
        section.card { (section(&told, |told| list(visit, told))) }
    };
    Page::new("Caches", "*", body)
}

fn list(visit: &Visit, told: &Value) -> Markup {
    let caches = told.list("caches");
    let silent: Vec<&str> = told.list("unreachable").iter().filter_map(Value::as_str).collect();
    html! {
        @if !silent.is_empty() {
            (notice("warn", "Not all nodes answered", &silent.join(", ")))
        }
        @if caches.is_empty() {
            (empty("No region is open", "The application opens one with `Caches`."))
        } @else {
            (rows(visit, caches))
        }
    }
}

fn rows(visit: &Visit, caches: &[Value]) -> Markup {
    let columns = [
        "Region",
        "Node",
        "#Values",
        "#Size",
        "#Memory",
        "#Redis",
        "#Loaded",
        "#Not kept",
        "#Stale",
        "#Evicted",
        "#Forgotten",
        "",
    ];
    table(
        "Regions",
        &columns,
        html! {
            @for cache in caches.iter().take(MOST) {
                tr {
                    (cell("Region", html! { strong { (cache.text("region")) } }))
                    (cell("Node", html! {
                        (cache.text("node"))
                        @if cache.has("trusted") && !cache.flag("trusted") { " (hears of no changes)" }
                    }))
                    (number_cell("Values", count(cache, "entries")))
                    (number_cell("Size", size(cache)))
                    (number_cell("Memory", count(cache, "memory")))
                    (number_cell("Redis", count(cache, "redis")))
                    (number_cell("Loaded", count(cache, "loaded")))
                    (number_cell("Not kept", count(cache, "unkept")))
                    (number_cell("Stale", count(cache, "stale")))
                    (number_cell("Evicted", count(cache, "evicted")))
                    (number_cell("Forgotten", count(cache, "forgotten")))
                    td.do {
                        div {
                            (button(visit, "caches.clear", &[("region", cache.text("region"))]))
                            (button(visit, "caches.forget", &[("region", cache.text("region"))]))
                        }
                    }
                }
            }
        },
    )
}

fn count(cache: &Value, name: &str) -> String {
    cache.number(name).map(words::count).unwrap_or_default()
}

fn size(cache: &Value) -> String {
    let bytes = |name: &str| cache.number(name).map(words::bytes).unwrap_or_default();
    format!("{} of {}", bytes("bytes"), bytes("max_bytes"))
}
