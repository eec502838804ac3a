//! Making and changing a job, and trying a schedule before it counts.

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::super::api::{Change, encoded};
use super::super::layout::Page;
use super::super::look::Look as _;
use super::super::parts::{self, card, heading};
use super::super::visit::Visit;
use super::super::words;

/// A definition to begin with.
const EXAMPLE: &str = r#"{
  "handler": "http",
  "description": "",
  "schedule": { "kind": "cron", "expression": "0 2 * * *", "time_zone": "Europe/Zurich" },
  "params": { "url": "https://example.com/hook", "method": "POST" },
  "placement": "any",
  "retry": { "retries": 3, "delay_ms": 10000, "backoff": "exponential" }
}"#;

/// Shows the form with the definition that counts.
pub(in super::super) async fn edit(visit: &Visit) -> Page {
    let name = visit.name("name");
    let job = match visit.get(&format!("/v1/jobs/{}", encoded(name))).await {
        Ok(job) => job,
        Err(trouble) => return super::gone(name, &trouble),
    };
    let text = serde_json::to_string_pretty(&short(job.at("spec"))).unwrap_or_default();
    let revision = job.said("revision");
    let back = format!("/console/jobs/{}", encoded(name));
    let body = html! {
        (heading(
            html! { "Edit " (name) },
            "It counts on all nodes at once, before what the program or a file says, until it is reverted.",
            parts::nothing(),
        ))
        div.columns.editing {
            (card("Definition", html! {
                form method="post" action="/console/do/jobs.put" {
                    input type="hidden" name="name" value=(name);
                    input type="hidden" name="revision" value=(revision);
                    input type="hidden" name="back" value=(back);
                    (definition(&text))
                    div.buttons { button.primary { "Save" } a.button href=(back) { "Cancel" } }
                }
            }))
            (try_card(visit, None))
        }
    };
    Page::still(format!("Edit {name}"), body)
}

/// Shows the form of a new job.
pub(in super::super) async fn create(visit: &Visit) -> Page {
    let body = html! {
        (heading(
            "New job",
            "Its handler must be one that nodes have: http and command are in every node that has a file of jobs, others come with the program."
            ,
            parts::nothing(),
        ))
        div.columns.editing {
            (card("Definition", html! {
                form method="post" action="/console/do/jobs.put" {
                    input type="hidden" name="back" value="/console/jobs";
                    div.field {
                        label for="name" { "Name" }
                        input #name name="name" required maxlength="128" autocomplete="off" spellcheck="false" aria-describedby="name-hint";
                        p.hint #name-hint { "1 to 128 of A-Z a-z 0-9 . _ -" }
                    }
                    (definition(EXAMPLE))
                    div.buttons { button.primary { "Make it" } a.button href="/console/jobs" { "Cancel" } }
                }
            }))
            (try_card(visit, None))
        }
    };
    Page::still("New job", body)
}

fn definition(text: &str) -> Markup {
    html! {
        div.field {
            label for="definition" { "Definition, JSON" }
            textarea #definition name="definition" rows="22" spellcheck="false" autocomplete="off" required aria-describedby="definition-hint" { (text) }
            p.hint #definition-hint {
                "What is left out is as usual. The name, and the handler when it is the same, may be left out."
            }
        }
    }
}

/// Without what is as usual anyway, as far as it can be told: empty members and nulls.
fn short(spec: &Value) -> Value {
    let Some(members) = spec.as_object() else { return spec.clone() };
    let kept: Map<String, Value> = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(kept)
}

/// Shows when a schedule would be due.
pub(in super::super) async fn schedule(visit: &Visit) -> Page {
    let expression = visit.asked("expression");
    let told = if expression.is_empty() { None } else { Some(preview(visit, expression).await) };
    let body = html! {
        (heading("Try a schedule", "When it would be due, changes of clocks included.", html! {
            a.button href="/console/jobs" { "Jobs" }
        }))
        (try_card(visit, told))
    };
    Page::still("Try a schedule", body)
}

async fn preview(visit: &Visit, expression: &str) -> Markup {
    let mut schedule = json!({ "kind": "cron", "expression": expression });
    match visit.asked("zone") {
        "" => {}
        zone => schedule["time_zone"] = json!(zone),
    }
    // A question, although it has a body: nothing is changed by it.
    let question = Change {
        method: "POST",
        target: "/v1/jobs/preview".to_owned(),
        body: json!({ "schedule": schedule, "count": 20 }),
        headers: Vec::new(),
    };
    match visit.console.api.change(&visit.asker, &question).await {
        Ok(told) => html! { p.words { (told.text("words")) } (super::job::fires(visit, &told)) },
        Err(trouble) => super::super::layout::notice("bad", &trouble.title, &trouble.detail),
    }
}

fn try_card(visit: &Visit, told: Option<Markup>) -> Markup {
    card(
        "Try a schedule",
        html! {
            form.filters method="get" action="/console/schedule" {
                label {
                    span { "Cron expression" }
                    input name="expression" value=(visit.asked("expression")) placeholder="30 2 * * mon-fri" required autocomplete="off" spellcheck="false";
                }
                label {
                    span { "Time zone" }
                    input name="zone" value=(visit.asked("zone")) placeholder="Europe/Zurich" autocomplete="off" spellcheck="false";
                }
                button { "Show due times" }
            }
            @if let Some(told) = told { (told) }
            @else {
                p.soft {
                    "Five or six fields, or @daily and the like. It is "
                    (words::of_day(visit.now_ms))
                    " UTC."
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_json_with_a_schedule() {
        let example: Value = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(example.text("schedule.kind"), "cron");
        assert_eq!(short(&json!({ "a": null, "b": 1 })), json!({ "b": 1 }));
    }
}
