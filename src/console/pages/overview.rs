//! The first page: whether all is well, and if not, where to look.

use maud::{Markup, html};
use serde_json::Value;

use super::super::api::{Kind, Told, target};
use super::super::chart::{self, Share, Stretch};
use super::super::icons::icon;
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, empty, section, tile, wide_card};
use super::super::visit::Visit;
use super::super::{states, words};

mod readings;

pub(in super::super) use readings::Readings;

/// What is due within an hour is shown.
const SOON_MS: i64 = 3_600_000;

/// What the page is made of.
struct Seen {
    nodes: Told,
    leader: Told,
    scheduler: Told,
    due: Told,
    sessions: Told,
    problems: Told,
    maintenance: Told,
    failures: Told,
}

/// Shows the page.
pub(in super::super) async fn show(visit: &Visit) -> Page {
    let soon = SOON_MS.to_string();
    let due = target("/v1/jobs-due", &[("within_ms", &soon), ("limit", "60")]);
    let failures =
        target("/v1/runs", &[("state", "failed,dead,lost,incompatible"), ("limit", "5")]);
    let (nodes, leader, scheduler, due, sessions, problems, maintenance, failures, charts) = tokio::join!(
        visit.get("/v1/nodes"),
        visit.get("/v1/leader"),
        visit.get("/v1/scheduler"),
        visit.get(&due),
        visit.get("/v1/sessions/count"),
        visit.get("/v1/problems"),
        visit.get("/v1/maintenance"),
        visit.get(&failures),
        readings::charts(visit),
    );
    let seen = Seen { nodes, leader, scheduler, due, sessions, problems, maintenance, failures };
    let body = html! {
        (super::jobs::pause_notice(visit, &seen.scheduler))
        (super::maintenance::mode_notice(&seen.maintenance))
        (seen.verdict())
        div.tiles { (seen.tiles(visit)) (charts) }
        div.columns {
            div.stack { (problems_card(visit, &seen.problems)) (failures_card(visit, &seen.failures)) }
            div.stack { (nodes_card(visit, &seen)) (due_card(visit, &seen.due)) }
        }
    };
    Page::new("Overview", "nodes leader problems settings jobs", body)
}

/// How many nodes there are, and how many of them serve.
fn nodes_of(nodes: &Told) -> Option<(usize, usize)> {
    let nodes = nodes.as_ref().ok()?.list("nodes");
    let serve = nodes.iter().filter(|node| states::node_state(node).1 == "ready");
    Some((serve.count(), nodes.len()))
}

impl Seen {
    fn severities(&self) -> (usize, usize) {
        let problems = self.problems.as_ref().map(|told| told.list("problems")).unwrap_or_default();
        let count = |severity: &str| {
            problems.iter().filter(|problem| problem.text("severity") == severity).count()
        };
        (count("critical"), count("warning"))
    }

    /// The answer to the only question at three in the morning.
    fn verdict(&self) -> Markup {
        let (critical, warnings) = self.severities();
        let nodes = nodes_of(&self.nodes);
        let all_serve = nodes.is_some_and(|(serve, all)| serve == all);
        let leaderless = self.leader.as_ref().is_ok_and(|leader| !leader.has("leaderNodeId"));
        let away = |told: &Told| told.as_ref().is_err_and(|trouble| trouble.kind == Kind::Away);
        let unsure =
            [&self.nodes, &self.leader, &self.scheduler, &self.problems].into_iter().any(away);
        let (tone, title) = match () {
            () if critical > 0 || nodes.is_some_and(|(serve, _)| serve == 0) => {
                ("bad", "Something is wrong")
            }
            () if unsure => ("warn", "Not all can be seen"),
            () if warnings > 0 || !all_serve || leaderless => ("warn", "Something needs a look"),
            () => ("ok", "All is well"),
        };
        html! {
            div class={ "verdict " (tone) } {
                (icon(tone))
                div { h1 { (title) } p { (self.sentence(nodes, (critical, warnings))) } }
            }
        }
    }

    fn sentence(
        &self,
        nodes: Option<(usize, usize)>,
        (critical, warnings): (usize, usize),
    ) -> String {
        let mut parts = Vec::new();
        match nodes {
            Some((1, 1)) => parts.push("The node serves".to_owned()),
            Some((serve, all)) if serve == all => parts.push(format!("All {all} nodes serve")),
            Some((serve, all)) => parts.push(format!("{serve} of {all} nodes serve")),
            None => parts.push("The nodes cannot be listed now".to_owned()),
        }
        match &self.leader {
            Ok(leader) if leader.has("leaderNodeId") => {
                parts.push(format!("{} leads", leader.text("leaderNodeId")));
            }
            Ok(_) => parts.push("nobody leads".to_owned()),
            Err(_) => {}
        }
        match (critical, warnings) {
            (0, 0) if self.problems.is_ok() => parts.push("no problems were found".to_owned()),
            (0, 0) => {}
            (critical, warnings) => {
                let all = i64::try_from(critical + warnings).unwrap_or_default();
                parts.push(words::counted(all, "problem", "problems"));
            }
        }
        format!("{}.", parts.join(", "))
    }

    fn tiles(&self, visit: &Visit) -> Markup {
        html! {
            (self.nodes_tile())
            (self.leader_tile(visit))
            (self.sessions_tile())
            (self.runs_tile())
        }
    }

    fn nodes_tile(&self) -> Markup {
        match nodes_of(&self.nodes) {
            Some((serve, all)) => tile(
                "Nodes that serve",
                html! { (serve) span.of { " / " (all) } },
                html! { a href="/console/nodes" { "Nodes" } },
            ),
            None => tile("Nodes that serve", "–", "not known now"),
        }
    }

    fn leader_tile(&self, visit: &Visit) -> Markup {
        let Ok(leader) = &self.leader else { return tile("Leader", "–", "not known now") };
        let name = match leader.text("leaderNodeId") {
            "" => html! { "nobody" },
            name => html! { (name) },
        };
        let note = html! {
            @if let Some(epoch) = leader.number("epoch") { a href="/console/leader" { "term " (epoch) } " " }
            @if leader.has("since_ms") { "for " (parts::lasting(visit, leader.number("since_ms"))) }
            @if leader.flag("frozen") { ", frozen" }
        };
        tile("Leader", html! { span.name { (name) } }, note)
    }

    fn sessions_tile(&self) -> Markup {
        let sessions = match &self.sessions {
            Ok(sessions) => sessions,
            Err(trouble) if trouble.kind == Kind::NotThere => {
                return tile("Sessions", "–", "not available on this node");
            }
            Err(_) => return tile("Sessions", "–", "not known now"),
        };
        let note = match sessions.number("users") {
            Some(users) => words::counted(users, "user", "users"),
            None => "users are not counted".to_owned(),
        };
        tile("Sessions", words::count(sessions.number("sessions").unwrap_or_default()), note)
    }

    fn runs_tile(&self) -> Markup {
        let Ok(scheduler) = &self.scheduler else {
            return tile("Runs under way", "–", "not known now");
        };
        let of = |state: &str| scheduler.at("runs").number(state).unwrap_or_default();
        let shares =
            [("running", "go"), ("queued", "wait"), ("retrying", "warn")].map(|(state, tone)| {
                Share { value: of(state), tone, title: format!("{state}: {}", of(state)) }
            });
        let whole: i64 = shares.iter().map(|share| share.value).sum();
        let told: Vec<String> = ["running", "queued", "retrying"]
            .into_iter()
            .filter(|state| of(state) > 0)
            .map(|state| format!("{} {state}", words::count(of(state))))
            .collect();
        let said =
            if told.is_empty() { "nothing runs or waits".to_owned() } else { told.join(", ") };
        tile(
            "Runs under way",
            words::count(whole),
            html! { (chart::shares(&said, &shares)) (said) },
        )
    }
}

fn problems_card(visit: &Visit, problems: &Told) -> Markup {
    let link = html! { a.button href="/console/problems" { "All" } };
    wide_card(
        "Problems",
        link,
        section(problems, |problems| {
            let all = problems.list("problems");
            html! {
                @if all.is_empty() {
                    (empty(
                        "No problems were found",
                        "Each node looks for them all the time; the doctor looks deeper.",
                    ))
                }
                ul.problems {
                    @for problem in all.iter().take(5) { (super::problems::line(visit, problem)) }
                }
                @if all.len() > 5 { p { a href="/console/problems" { (all.len() - 5) " more" } } }
            }
        }),
    )
}

fn due_card(visit: &Visit, due: &Told) -> Markup {
    let link = html! { a.button href="/console/jobs" { "Jobs" } };
    wide_card(
        "Due within an hour",
        link,
        section(due, |told| {
            let due = told.list("due");
            let now_ms = told.number("now_ms").unwrap_or(visit.now_ms);
            if due.is_empty() {
                return empty(
                    "Nothing is due",
                    "No job of the application is due within the hour.",
                );
            }
            let stretches: Vec<Stretch> = due
                .iter()
                .filter_map(|one| {
                    let at = one.number("fire_ms")?;
                    let held = one.flag("paused") || !one.flag("enabled");
                    let tone = if held { "idle" } else { "go" };
                    Some(Stretch { from: at, to: at, tone, title: one.text("job").to_owned() })
                })
                .collect();
            html! {
                (chart::lane("When jobs are due within the hour", (now_ms, now_ms + SOON_MS), &stretches))
                p.axis { span { "now" } span { "30 min" } span { "1 h" } }
                ul.lines { @for one in due.iter().take(8) { (due_line(visit, one)) } }
            }
        }),
    )
}

fn due_line(visit: &Visit, due: &Value) -> Markup {
    html! {
        li {
            span {
                (parts::job_link(due.text("job")))
                @if due.flag("paused") { " " (states::plain_chip("paused")) }
                @if !due.flag("enabled") { " " (states::plain_chip("off")) }
            }
            span.num { (parts::time(visit, due.number("fire_ms"))) }
        }
    }
}

fn nodes_card(visit: &Visit, seen: &Seen) -> Markup {
    let leader =
        seen.leader.as_ref().map(|leader| leader.text("leaderNodeUuid")).unwrap_or_default();
    let empty = Value::Null;
    let residents = seen.sessions.as_ref().unwrap_or(&empty);
    let link = html! { a.button href="/console/nodes" { "All" } };
    wide_card(
        "Nodes",
        link,
        section(&seen.nodes, |nodes| {
            html! {
                ul.lines {
                    @for node in nodes.list("nodes") {
                        li {
                            span {
                                (parts::node_link(node.text("record.id")))
                                @if node.text("record.id") == leader { " " (states::leader_chip()) }
                            }
                            span.num {
                                @if let Some(count) = residents.at("residents").number(words::node_name(node.text("record.id"))) {
                                    span.soft { (words::count(count)) " resident " }
                                }
                                (states::node_chip(node))
                            }
                        }
                    }
                }
                @if nodes.list("nodes").len() == 1 { p.soft { "One node: nobody steps in when it stops." } }
                @if visit.may(understudy_runtime::admin::Role::Operator) && nodes.list("nodes").len() > 1 {
                    p { (super::super::doing::button(visit, "cluster.restart", &[])) }
                }
            }
        }),
    )
}

fn failures_card(visit: &Visit, failures: &Told) -> Markup {
    let link = html! {
        a.button href="/console/runs?state=failed&state=dead&state=lost&state=incompatible" { "All" }
    };
    wide_card(
        "Latest failures",
        link,
        section(failures, |runs| {
            let runs = runs.list("runs");
            if runs.is_empty() {
                return empty("No run has failed", "As far back as runs are kept.");
            }
            html! {
                ul.lines.tall {
                    @for run in runs {
                        li {
                            span {
                                (parts::run_link(run.number("id").unwrap_or_default()))
                                " "
                                (parts::job_link(run.text("job")))
                                p.soft.cut { (words::shortened(run.text("error"), 160)) }
                            }
                            span.num {
                                (states::run_chip(run.text("state")))
                                br;
                                (parts::time(visit, run.number("finished_ms")))
                            }
                        }
                    }
                }
            }
        }),
    )
}

/// Tiles of charts, or a hint where there is nothing to draw.
fn chart_tile(label: &str, value: &str, drawing: &Markup, note: &str) -> Markup {
    html! { div.tile.wide { p.label { (label) } p.value { (value) } (drawing) p.note { (note) } } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(nodes: Value, leader: Value, problems: Value) -> Seen {
        let away = || Err(super::super::super::api::Trouble::away("x"));
        Seen {
            nodes: Ok(nodes),
            leader: Ok(leader),
            problems: Ok(problems),
            scheduler: Ok(json!({})),
            due: away(),
            sessions: away(),
            maintenance: away(),
            failures: away(),
        }
    }

    fn node(state: &str) -> Value {
        json!({ "live": true, "record": { "id": "a#1", "state": state } })
    }

    #[test]
    fn the_verdict_is_the_worst_that_is_known() {
        let leader = json!({ "leaderNodeId": "a" });
        let problem = |severity: &str| json!({ "problems": [{ "severity": severity }] });
        let two = |other: &str| json!({ "nodes": [node("ready"), node(other)] });
        for (nodes, leader, problems, title) in [
            (two("ready"), leader.clone(), problem("info"), "All is well"),
            (two("draining"), leader.clone(), problem("info"), "Something needs a look"),
            (two("ready"), json!({}), problem("info"), "Something needs a look"),
            (two("ready"), leader.clone(), problem("warning"), "Something needs a look"),
            (two("ready"), leader.clone(), problem("critical"), "Something is wrong"),
            (json!({ "nodes": [node("draining")] }), leader, json!({}), "Something is wrong"),
        ] {
            let told = seen(nodes, leader, problems).verdict().0;
            assert!(told.contains(title), "{title}: {told}");
        }
        let mut blind = seen(json!({}), json!({}), json!({}));
        blind.nodes = Err(super::super::super::api::Trouble::away("x"));
        assert!(blind.verdict().0.contains("Not all can be seen"));
    }
}
