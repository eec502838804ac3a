//! What a job is: its policies in words, and all of it as JSON.

use maud::{Markup, html};
use serde_json::Value;

use super::super::super::look::Look as _;
use super::super::super::parts::{self, fact, facts};
use super::super::super::visit::Visit;
use super::super::super::words;
use super::said;

/// The policies, those that are as usual too: nobody should have to know what is usual.
pub(super) fn policies(visit: &Visit, job: &Value) -> Markup {
    let spec = job.at("spec");
    let labels: Vec<String> = spec
        .entries("labels")
        .into_iter()
        .map(|(name, value)| format!("{name}={}", said(value)))
        .collect();
    facts(html! {
        (fact("Handler", parts::code(spec.text("handler"))))
        (fact("Runs on", match spec.text("placement") {
            "any" => "any node that can",
            "every" => "every node",
            _ => "the leader",
        }))
        @if !labels.is_empty() { (fact("With labels", labels.join(", "))) }
        (fact("When it was missed", policy(spec.at("misfire"))))
        (fact("When it still runs", policy(spec.at("overlap"))))
        (fact("When it fails", retries(spec)))
        (fact("When its node dies", policy(spec.at("on_orphan"))))
        (fact("Longest attempt", limit(spec.number("timeout_ms"))))
        (fact("At once in the cluster", spec.said("max_concurrency")))
        (fact("Priority", spec.said("priority")))
        (fact("Afterwards", chain(spec)))
        (fact("Defined by", html! {
            (job.text("origin"))
            @if !job.text("changed_by").is_empty() {
                ", changed by "
                (job.text("changed_by"))
                " "
                (parts::time(visit, job.number("changed_ms")))
            }
        }))
        (fact("Revision", job.said("revision")))
    })
}

/// `{"policy": "fire_all", "max": 100}` as `fire all, max 100`.
fn policy(value: &Value) -> String {
    let name = match value.text("policy") {
        "" => said(value),
        name => words::plain(name),
    };
    match value.said("max") {
        max if max.is_empty() => name,
        max => format!("{name}, at most {max}"),
    }
}

fn retries(spec: &Value) -> String {
    let retry = spec.at("retry");
    match retry.number("retries").unwrap_or_default() {
        0 => "it is not tried again".to_owned(),
        retries => format!(
            "{}, the first after {}, {}",
            words::counted(retries, "retry", "retries"),
            words::span(retry.number("delay_ms").unwrap_or_default()),
            said(retry.at("backoff")),
        ),
    }
}

fn limit(ms: Option<i64>) -> String {
    ms.map_or_else(|| "no limit".to_owned(), words::span)
}

fn chain(spec: &Value) -> Markup {
    html! {
        @for (place, next) in spec.list("then").iter().enumerate() {
            @if place > 0 { ", then " }
            (parts::job_link(next.as_str().unwrap_or_default()))
        }
    }
}

/// All of it.
pub(super) fn whole(visit: &Visit, job: &Value) -> Markup {
    html! {
        (parts::json("Definition as JSON", "spec", job.at("spec")))
        p.soft {
            "Made "
            (parts::time(visit, job.number("created_ms")))
            ", revision "
            (job.said("revision"))
            "."
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_are_told_in_words() {
        assert_eq!(policy(&json!({ "policy": "fire_all", "max": 100 })), "fire all, at most 100");
        assert_eq!(policy(&json!({ "policy": "skip" })), "skip");
        assert_eq!(policy(&json!("cancel_previous")), "cancel previous");
        let spec = json!({ "retry": { "retries": 3, "delay_ms": 10_000, "backoff": "fixed" } });
        assert_eq!(retries(&spec), "3 retries, the first after 10 s, fixed");
        assert_eq!(retries(&json!({})), "it is not tried again");
    }
}
