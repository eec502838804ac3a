//! Who leads, who led, and moving the lead.

use maud::{Markup, html};
use serde_json::Value;

use super::super::chart::{self, Stretch};
use super::super::doing::button;
use super::super::layout::{Page, notice};
use super::super::look::Look as _;
use super::super::parts::{
    self, card, cell, empty, fact, facts, heading, number_cell, section, table, wide_card,
};
use super::super::states::{self, Look};
use super::super::visit::Visit;
use super::super::words;

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let (leader, history, scheduler) = tokio::join!(
        visit.get("/v1/leader"),
        visit.get("/v1/leader/history?limit=50"),
        visit.get("/v1/scheduler"),
    );
    let known = Value::Null;
    let now = leader.as_ref().unwrap_or(&known);
    let switch =
        scheduler.as_ref().map(|told| told.at("switches.frozen").clone()).unwrap_or_default();
    let body = html! {
        (heading(
            "Leader",
            "One node decides what is due. When it dies, another takes over within the time to live of its lease."
            ,
            actions(visit, now),
        ))
        @if now.flag("frozen") {
            (notice(
                "warn",
                "Frozen: the leader stays where it is, whatever the priorities say",
                &super::node::said_by(visit, &switch),
            ))
        }
        @if leader.is_ok() && !now.has("leaderNodeId") {
            (notice(
                "bad",
                "Nobody leads",
                "Nothing becomes due until a node does. Look at the problems, and at whether nodes are set aside."
                ,
            ))
        }
        div.columns {
            (card("Now", section(&leader, |leader| present(visit, leader))))
            (card("As this node sees it", section(&leader, |leader| own(visit, leader))))
        }
        (wide_card("Terms", parts::nothing(), section(&history, |history| terms(visit, history))))
    };
    Page::new("Leader", "leader nodes", body)
}

fn actions(visit: &Visit, leader: &Value) -> Markup {
    html! {
        @if leader.has("leaderNodeId") {
            (button(visit, "leader.step_down", &[]))
            (button(visit, "leader.drill", &[]))
        }
        @if leader.flag("frozen") {
            (button(visit, "leader.unfreeze", &[]))
        } @else {
            (button(visit, "leader.freeze", &[]))
        }
    }
}

fn present(visit: &Visit, leader: &Value) -> Markup {
    facts(html! {
        (fact("Node", html! { (parts::node_link(leader.text("leaderNodeUuid"))) }))
        (fact("Term", leader.said("epoch")))
        (fact("Since", parts::both(visit, leader.number("since_ms"))))
        (fact("Lease left", parts::span(leader.number("expires_in_ms"))))
    })
}

fn own(visit: &Visit, leader: &Value) -> Markup {
    facts(html! {
        (fact("This node", parts::node_link(leader.text("currentNodeUuid"))))
        (fact("It is", html! {
            (words::plain(leader.text("state")))
            " for "
            (parts::lasting(visit, leader.number("state_since_ms")))
        }))
        (fact("May lead", states::yes_no(leader.flag("eligible"), "yes", "no")))
        (fact("Priority", leader.said("priority")))
        (fact("Set aside", if leader.flag("maintenance") { "yes" } else { "no" }))
        (fact("Holds back until", parts::both(visit, leader.number("hold_until_ms"))))
        (fact("Trouble", leader.text("trouble")))
    })
}

fn terms(visit: &Visit, history: &Value) -> Markup {
    let terms = history.list("terms");
    if terms.is_empty() {
        return empty(
            "Nobody has led yet",
            "The first term begins when a node has its lease and the database.",
        );
    }
    html! {
        (timeline(visit, terms))
        (table("Terms", &["Term", "Node", "Began", "#Lasted", "#Nobody before", "Ended"], html! {
            @for term in terms { (row(visit, term)) }
        }))
    }
}

fn row(visit: &Visit, term: &Value) -> Markup {
    let started = term.number("started_ms").unwrap_or_default();
    let end = ended(visit, term);
    html! {
        tr {
            (cell("Term", html! { span.num { (term.said("epoch")) } }))
            (cell("Node", parts::node_link(term.text("node"))))
            (cell("Began", parts::both(visit, Some(started))))
            (number_cell("Lasted", words::span(end - started)))
            (number_cell("Nobody before", parts::span(term.number("gap_ms"))))
            (cell("Ended", match term.text("reason") {
                "" if term.has("ended_ms") => states::plain_chip("ended"),
                "" => states::chip(Look { tone: "lead", icon: "lead" }, "leads"),
                reason => states::plain_chip(&words::plain(reason)),
            }))
        }
    }
}

/// When a term ended, as far as known: now for one that goes on.
fn ended(visit: &Visit, term: &Value) -> i64 {
    match (term.number("ended_ms"), term.text("reason")) {
        // The end of a term that was cut off is only known to be after its last sign of life.
        (Some(ended), "superseded") => term.number("seen_ms").unwrap_or(ended),
        (Some(ended), _) => ended,
        (None, _) => visit.now_ms,
    }
}

/// Who led when: a lane for each node, and one for the times without a leader.
fn timeline(visit: &Visit, terms: &[Value]) -> Markup {
    let first = terms.iter().filter_map(|term| term.number("started_ms")).min();
    let from = first.unwrap_or(visit.now_ms);
    let range = (from, visit.now_ms);
    let mut nodes: Vec<&str> =
        terms.iter().map(|term| words::node_name(term.text("node"))).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let of_node = |node: &str| -> Vec<Stretch> {
        let own = terms.iter().filter(|term| words::node_name(term.text("node")) == node);
        own.map(|term| stretch(visit, term)).collect()
    };
    html! {
        dl.lanes {
            @for node in nodes {
                div { dt { (node) } dd { (chart::lane(&format!("When {node} led"), range, &of_node(node))) } }
            }
            div.gaps { dt { "nobody" } dd { (chart::lane("When nobody led", range, &gaps(terms))) } }
        }
        p.axis { span { (words::clock(from)) } span { "now" } }
    }
}

fn stretch(visit: &Visit, term: &Value) -> Stretch {
    let (from, to) = (term.number("started_ms").unwrap_or_default(), ended(visit, term));
    let tone = if term.has("ended_ms") { "go" } else { "lead" };
    Stretch {
        from,
        to,
        tone,
        title: format!("term {}: {}", term.said("epoch"), words::span(to - from)),
    }
}

fn gaps(terms: &[Value]) -> Vec<Stretch> {
    terms
        .iter()
        .filter_map(|term| {
            let (gap, to) = (term.number("gap_ms")?, term.number("started_ms")?);
            let title = format!("nobody led for {}", words::span(gap));
            (gap > 0).then_some(Stretch { from: to - gap, to, tone: "bad", title })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_without_a_leader_are_seen() {
        let terms = [
            json!({ "epoch": 3, "started_ms": 9_000, "gap_ms": 3_000 }),
            json!({ "epoch": 2, "started_ms": 4_000, "gap_ms": 0 }),
            json!({ "epoch": 1, "started_ms": 1_000, "gap_ms": null }),
        ];
        let gaps = gaps(&terms);
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].from, gaps[0].to), (6_000, 9_000));
    }
}
