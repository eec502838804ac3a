//! Doing things: the question before, the request to the API, and the message after.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use serde_json::Value;

use super::api::{Kind as TroubleKind, Trouble, encoded, target};
use super::cookies::Flash;
use super::deeds::{Deed, Field, Form, Kind, Weight};
use super::layout::{self, Page};
use super::look::Look as _;
use super::parts;
use super::visit::{Visit, within};

mod hits;

pub(super) use hits::safe as safe_to_stop;

/// The largest form, bytes; the definition of a job may be long.
pub(super) const LONGEST_FORM: usize = 256 * 1024;

/// Asks before something is done.
pub(super) async fn ask(visit: &Visit) -> Page {
    let Some(deed) = Deed::find(visit.name("deed")) else { return unknown() };
    let form = Form::new(visit.query.iter().cloned());
    question(visit, deed, &form, None).await
}

/// Does it.
pub(super) async fn act(
    request: HttpRequest,
    visit: Visit,
    form: web::Form<Vec<(String, String)>>,
) -> HttpResponse {
    let Some(deed) = Deed::find(visit.name("deed")) else {
        return respond(&request, &visit, &unknown()).await;
    };
    let form = Form::new(form.into_inner());
    let change = match deed.change(&form) {
        Ok(change) => change,
        Err(wrong) => return refused(&request, &visit, (deed, &form), &wrong_form(wrong)).await,
    };
    match visit.console.api.change(&visit.asker, &change).await {
        Ok(answer) => match shown_once(deed, &answer) {
            Some(page) => respond(&request, &visit, &page).await,
            None => done(&request, deed, &form, &answer),
        },
        Err(trouble) => refused(&request, &visit, (deed, &form), &trouble).await,
    }
}

fn wrong_form(wrong: String) -> Trouble {
    Trouble {
        kind: TroubleKind::Refused,
        status: 422,
        code: "bad_form".to_owned(),
        title: "The form is not complete".to_owned(),
        detail: wrong,
        body: Value::Null,
    }
}

async fn respond(request: &HttpRequest, visit: &Visit, page: &Page) -> HttpResponse {
    layout::page(request, visit, &visit.head().await, page)
}

fn unknown() -> Page {
    let hint = parts::empty("Nothing of this name can be done", "The link is of another version.");
    let body = html! { (parts::heading("Not found", parts::nothing(), parts::nothing())) (hint) };
    Page::still("Not found", body).with_status(StatusCode::NOT_FOUND)
}

/// Says what was refused: at the form, with what was written, or on the page that somebody came from.
async fn refused(
    request: &HttpRequest,
    visit: &Visit,
    (deed, form): (&'static Deed, &Form),
    trouble: &Trouble,
) -> HttpResponse {
    if trouble.kind == TroubleKind::SignedOut {
        return see(request, "/console/login", None);
    }
    if deed.weight == Weight::Light {
        let flash = Flash::refused(&trouble.title, &trouble.detail);
        return see(request, within(&back(deed, form)), Some(&flash));
    }
    let status = StatusCode::from_u16(trouble.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let page = question(visit, deed, form, Some(trouble)).await.with_status(status);
    respond(request, visit, &page).await
}

fn back(deed: &Deed, form: &Form) -> String {
    match form.value("back") {
        "" => deed.fill_path(deed.back, form),
        back => back.to_owned(),
    }
}

/// Goes on after something was done: to the run that it started, or to where somebody came from.
fn done(request: &HttpRequest, deed: &Deed, form: &Form, answer: &Value) -> HttpResponse {
    let mut title = deed.fill(deed.done, form);
    let mut next = back(deed, form);
    if matches!(deed.id, "jobs.run" | "runs.retry")
        && let Some(run) = answer.number("run")
    {
        next = format!("/console/runs/{run}");
        title = match answer.flag("new") {
            true => format!("Run #{run} was started."),
            false => format!("Run #{run} had been started already."),
        };
    }
    if !answer.text("will_be_cancelled").is_empty() {
        title = "The request will be cancelled when its worker answers.".to_owned();
    }
    if let Some(more) = how_many(answer) {
        title = format!("{title} {more}");
    }
    see(request, within(&next), Some(&Flash::done(title)))
}

/// What an answer counts.
fn how_many(answer: &Value) -> Option<String> {
    let told =
        [("ended", "session", "sessions"), ("cancelled", "run", "runs"), ("runs", "run", "runs")];
    let gap = answer.number("gap_ms");
    let counts = told.into_iter().find_map(|(name, one, many)| {
        answer.number(name).map(|number| format!("{}.", super::words::counted(number, one, many)))
    });
    counts.or_else(|| gap.map(|gap| format!("Nobody led for {}.", super::words::span(gap))))
}

/// Sends the browser elsewhere.
pub(super) fn see(request: &HttpRequest, next: &str, flash: Option<&Flash>) -> HttpResponse {
    let mut answer = layout::answer(StatusCode::SEE_OTHER);
    if let Some(flash) = flash {
        answer.cookie(flash.cookie(request));
    }
    answer.insert_header((header::LOCATION, next)).finish()
}

/// A secret that the API tells only now.
fn shown_once(deed: &Deed, answer: &Value) -> Option<Page> {
    let secret = answer.text("token");
    if secret.is_empty() {
        return None;
    }
    let header = answer.text("header");
    let line = if header.is_empty() { secret.to_owned() } else { format!("{header}: {secret}") };
    let body = html! {
        (parts::heading(
            deed.done,
            "Copy it now: it is not shown again, and only its digest is kept.",
            parts::nothing(),
        ))
        section.card {
            p.secret {
                code #secret { (line) }
                button type="button" data-copy="secret" { (super::icons::icon("copy")) "Copy" }
            }
            (parts::facts(html! {
                @if !answer.text("name").is_empty() { (parts::fact("Whose", answer.text("name"))) }
                @if !answer.text("role").is_empty() { (parts::fact("Role", answer.text("role"))) }
                @if !answer.text("path").is_empty() { (parts::fact("For a browser", in_browser(answer.text("path")))) }
                (parts::fact("Good until", match answer.number("expires_ms").or(answer.number("until_ms")) {
                    Some(at_ms) => parts::exactly(at_ms),
                    None => html! { "it is revoked" },
                }))
            }))
            p { a.button href=(deed.back) { "Done" } }
        }
    };
    Some(Page::still(deed.done, body).with_status(StatusCode::CREATED))
}

/// Where a browser shows the word of a bypass.
fn in_browser(path: &str) -> Markup {
    html! { "open " (parts::code(path)) " of the public port, and give what stands after the colon" }
}

/// The page that asks.
async fn question(
    visit: &Visit,
    deed: &'static Deed,
    form: &Form,
    trouble: Option<&Trouble>,
) -> Page {
    let title = deed.fill(deed.title, form);
    let hits = hits::of(visit, deed, form).await;
    let back = back(deed, form);
    let allowed = visit.may(deed.role);
    let body = html! {
        div.question {
            h1 { (title) }
            @if let Some(trouble) = trouble { (layout::notice("bad", &trouble.title, &trouble.detail)) }
            p { (deed.effect) }
            (hits)
            @if allowed {
                form method="post" action={ "/console/do/" (deed.id) } {
                    input type="hidden" name="back" value=(within(&back));
                    @for field in deed.fields { (input(visit, field, form)) }
                    div.buttons {
                        button class=(if deed.weight == Weight::Grave { "grave" } else { "primary" }) {
                            (confirmation(deed))
                        }
                        a.button href=(within(&back)) { "Cancel" }
                    }
                }
            } @else {
                (layout::notice("warn", "You may not do this", &format!("It needs the role {}.", deed.role)))
                p { a.button href=(within(&back)) { "Back" } }
            }
        }
    };
    Page::still(title, body)
}

/// The text of the button that does it.
fn confirmation(deed: &Deed) -> &'static str {
    match deed.id {
        "jobs.put" => "Save",
        "tokens.create" => "Make the token",
        "runs.cancel" => "Cancel the run",
        "requests.cancel" => "Cancel the request",
        "actors.stop" => "Stop the actor",
        "settings.set" | "scheduler.jobs_enabled" => "Save",
        _ => deed.label,
    }
}

fn input(visit: &Visit, field: &Field, form: &Form) -> Markup {
    let (id, value) = (format!("f-{}", field.name), filled_in(field, form));
    let hint = (!field.hint.is_empty()).then(|| format!("{id}-hint"));
    let control = match field.kind {
        Kind::Target => return html! { input type="hidden" name=(field.name) value=(value); },
        Kind::Once => {
            let fresh = format!("console-{:032x}", rand_word(visit));
            let value = if value.is_empty() && field.name == "once" { &fresh } else { value };
            return html! { input type="hidden" name=(field.name) value=(value); };
        }
        Kind::Flag => {
            return html! {
                label.check {
                    input type="checkbox" name=(field.name) value="true" checked[!value.is_empty()];
                    span { (field.label) }
                }
                @if !field.hint.is_empty() { p.hint { (field.hint) } }
            };
        }
        Kind::Json => html! {
            textarea id=(id) name=(field.name) rows=(if field.optional { 4 } else { 16 }) spellcheck="false" autocomplete="off" required[!field.optional] aria-describedby=[hint.as_deref()] { (value) }
        },
        Kind::Choice(choices) => html! {
            select id=(id) name=(field.name) required[!field.optional] {
                @for (name, text) in choices { option value=(name) selected[*name == value] { (text) } }
            }
        },
        kind @ (Kind::Line
        | Kind::Number
        | Kind::Minutes
        | Kind::Seconds
        | Kind::Time
        | Kind::Words(_)) => html! {
            input id=(id) name=(field.name) value=(value) type=(type_of(kind)) autocomplete="off"
                required[!field.optional] min=[is_number(kind).then_some("0")] maxlength="1000" aria-describedby=[hint.as_deref()];
        },
    };
    html! {
        div.field {
            label for=(id) { (field.label) @if field.optional { span.soft { " optional" } } }
            (control)
            @if let Some(hint) = &hint { p.hint id=(hint) { (field.hint) } }
        }
    }
}

/// What stands in a field before anybody writes. Words that confirm something are never filled in: a link could have
/// written them, and then nobody has.
fn filled_in<'a>(field: &Field, form: &'a Form) -> &'a str {
    if matches!(field.kind, Kind::Words(_)) { "" } else { form.value(field.name) }
}

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Number | Kind::Minutes | Kind::Seconds => "number",
        Kind::Time => "datetime-local",
        Kind::Target
        | Kind::Line
        | Kind::Flag
        | Kind::Choice(_)
        | Kind::Json
        | Kind::Words(_)
        | Kind::Once => "text",
    }
}

fn is_number(kind: Kind) -> bool {
    type_of(kind) == "number"
}

/// A word that no other form has.
fn rand_word(visit: &Visit) -> u128 {
    visit.console.fresh_word()
}

/// The button, or the way to the question, for those who may.
pub(super) fn button(visit: &Visit, id: &str, values: &[(&str, &str)]) -> Markup {
    let Some(deed) = Deed::find(id).filter(|deed| visit.may(deed.role)) else {
        return html! {};
    };
    let whose = values.first().map(|(_, value)| *value).unwrap_or_default();
    let said = format!("{} {whose}", deed.label);
    if deed.weight == Weight::Light {
        return html! {
            form.inline method="post" action={ "/console/do/" (deed.id) } {
                input type="hidden" name="back" value=(visit.here);
                @for (name, value) in values { input type="hidden" name=(name) value=(value); }
                button aria-label=(said) { (deed.label) }
            }
        };
    }
    let mut query = values.to_vec();
    query.push(("back", &visit.here));
    let address = target(&format!("/console/do/{}", encoded(deed.id)), &query);
    html! {
        a.button.grave[deed.weight == Weight::Grave] href=(address) data-dialog aria-label=(said) {
            (deed.label)
        }
    }
}
