//! Every page as it looks: light and dark, on a telephone and on a wall.

use serde_json::Value;
use understudy_runtime::admin::Role;
use understudy_tests::oracle;

use super::axe;
use super::devtools::Browser;
use super::stage::{node, pictures, signed_in, token};
use super::stub::Mood;

/// All pages, each with something to show.
const PAGES: [&str; 37] = [
    "",
    "/problems",
    "/problems/doctor",
    "/nodes",
    "/nodes/hamlet",
    "/nodes/horatio",
    "/nodes/hamlet/config",
    "/nodes/hamlet/tasks",
    "/config",
    "/migrations",
    "/leader",
    "/jobs",
    "/jobs/nightly-report?at=2026-11-25T02:30",
    "/jobs/nightly-report/edit",
    "/new-job",
    "/schedule?expression=30+2+*+*+*",
    "/runs",
    "/tasks",
    "/runs/4812",
    "/runs/4811",
    "/sessions?user=yorick",
    "/sessions/9f86d0818884c7d659a2feaa0c55ad00",
    "/settings",
    "/maintenance",
    "/actors",
    "/actors?type=session&id=9f86d0818884c7d659a2feaa0c55ad00",
    "/requests",
    "/log",
    "/caches",
    "/files",
    "/files?unused=yes",
    "/locks",
    "/audit",
    "/tokens",
    "/do/nodes.drain?name=hamlet",
    "/do/sessions.end_all",
    "/do/tokens.create",
];

/// A telephone, and a screen on a wall.
const SIZES: [(u32, u32); 2] = [(360, 740), (1_920, 1_080)];

/// A page with all that belongs to it may have so many bytes.
const FIRST_LOAD: i64 = 100_000;

/// How many bytes a page was, and how much wider than its window.
const MEASURE: &str = "(() => {
    const loaded = performance.getEntries().filter((one) => one.entryType === 'navigation' || /assets/.test(one.name));
    return {
        bytes: loaded.reduce((sum, one) => sum + one.decodedBodySize, 0),
        wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        which: [...document.querySelectorAll('main *')]
            .filter((one) => one.getBoundingClientRect().right > innerWidth)
            .map((one) => `${one.tagName}.${one.className}`),
    };
})()";

/// What a person would stumble over, by checks of our own.
const STUMBLES: &str = include_str!("looks/stumbles.js");

#[test]
fn all_pages_fit_their_window_are_small_and_nobody_stumbles() {
    let node = node(Mood::Busy);
    let origin = node.url("");
    let mut browser = signed_in(&origin, token(Role::Admin));
    let mut largest = 0;
    for (size, colours) in SIZES.into_iter().flat_map(|size| [(size, "light"), (size, "dark")]) {
        browser.look_as(size, colours);
        for page in PAGES {
            browser.visit(&format!("{origin}/console{page}"));
            let place = format!("{page} at {}, {colours}", size.0);
            keep(&mut browser, page, &format!("{}_{colours}", size.0));
            let measured = browser.run(MEASURE);
            assert_eq!(measured["wider"], 0, "{place} is wider than its window");
            largest = largest.max(measured["bytes"].as_i64().unwrap_or(i64::MAX));
            nobody_stumbles(&mut browser, &place, size.0 == 1_920);
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{place}");
        }
    }
    oracle!("bytes of the largest first load", largest, <= FIRST_LOAD);
}

#[test]
fn hostile_names_neither_run_nor_break_the_page() {
    let node = node(Mood::Hostile);
    let origin = node.url("");
    let mut browser = signed_in(&origin, token(Role::Admin));
    for size in SIZES {
        browser.look_as(size, "light");
        for page in PAGES {
            browser.visit(&format!("{origin}/console{page}"));
            assert_eq!(browser.text("String(window.hit)"), "undefined", "{page}");
            let measured = browser.run(MEASURE);
            assert_eq!(measured["wider"], 0, "{page} at {}: {}", size.0, measured["which"]);
        }
        keep(&mut browser, "/hostile", &size.0.to_string());
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_node_without_much_or_in_trouble_looks_right_too() {
    for mood in [Mood::Empty, Mood::Old, Mood::Down] {
        let node = node(mood);
        let origin = node.url("");
        let mut browser = signed_in(&origin, token(Role::Admin));
        for page in
            ["", "/nodes", "/leader", "/jobs", "/runs", "/sessions", "/maintenance", "/audit"]
        {
            browser.look_as(SIZES[0], "dark");
            browser.visit(&format!("{origin}/console{page}"));
            assert_eq!(browser.run(MEASURE)["wider"], 0, "{mood:?} {page}");
            nobody_stumbles(&mut browser, &format!("{mood:?} {page}"), true);
            browser.look_as(SIZES[1], "light");
            keep(&mut browser, page, &format!("{mood:?}").to_lowercase());
        }
        assert_eq!(browser.complaints(), Vec::<String>::new(), "{mood:?}");
    }
}

fn keep(browser: &mut Browser, page: &str, how: &str) {
    let plain: String =
        page.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
    let name = if plain.is_empty() { "_overview".to_owned() } else { plain };
    browser.picture(&pictures().join(format!("{}_{how}.png", name.trim_start_matches('_'))));
}

/// Nothing that people who do not see the page, or use no mouse, stumble over.
fn nobody_stumbles(browser: &mut Browser, place: &str, with_axe: bool) {
    let found = browser.run(STUMBLES);
    assert_eq!(found, Value::Array(Vec::new()), "{place}");
    let Some(source) = axe::source().filter(|_| with_axe) else { return };
    browser.run(&format!("{source};0"));
    let serious = browser.run(
        "axe.run().then((found) => found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
            .map((one) => [one.id, ...one.nodes.slice(0, 3).map((node) => node.html)]))",
    );
    assert_eq!(serious, Value::Array(Vec::new()), "{place}");
}
