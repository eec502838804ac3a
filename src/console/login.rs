//! In and out: a token is shown once and a cookie is kept instead of it.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use serde::Deserialize;
use understudy_runtime::http::client_addr;

use super::Console;
use super::api::Asker;
use super::cookies::{self, Flash};
use super::icons::{icon, mark};
use super::layout;
use super::visit::{PACES, Theme, theme, within};

/// Whoever was wrong waits. Tokens are too long to be guessed; this keeps attempts few enough for the audit log.
const AFTER_A_WRONG_ONE: Duration = Duration::from_millis(700);
/// So many wrong ones wait at a time; further ones are told at once to come later.
pub(super) const MOST_WRONG_ONES: usize = 16;
/// Longer tokens than this are nobody's.
const LONGEST_TOKEN: usize = 4_096;

/// What leads back.
#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// What somebody shows at the door.
#[derive(Deserialize)]
pub(super) struct Given {
    token: String,
    #[serde(default)]
    next: String,
}

/// Shows the door.
pub(super) async fn show(
    request: HttpRequest,
    console: Data<Console>,
    next: web::Query<Next>,
) -> HttpResponse {
    let page = door(&console, theme(&request), within(&next.next), false);
    layout::answer(StatusCode::OK).body(page)
}

/// Lets in whoever has a token.
pub(super) async fn enter(
    request: HttpRequest,
    console: Data<Console>,
    given: web::Form<Given>,
) -> HttpResponse {
    let (token, next) = (given.token.trim(), within(&given.next));
    if let Some(who) = console.backstage.owner_of(token) {
        let (sealed, life) = console.backstage.sign_in(&who);
        tracing::info!(role = %who.role, by = %who.name, "somebody signed in to the console");
        return layout::answer(StatusCode::SEE_OTHER)
            .cookie(cookies::signed_in(&request, sealed, life))
            .insert_header((header::LOCATION, next))
            .finish();
    }
    let page = door(&console, theme(&request), next, true);
    let Ok(_place) = console.wrong_ones.try_acquire() else {
        return layout::answer(StatusCode::TOO_MANY_REQUESTS)
            .insert_header((header::RETRY_AFTER, "1"))
            .body(page);
    };
    wrong(&request, &console, token).await;
    layout::answer(StatusCode::UNAUTHORIZED).body(page)
}

/// Has the API refuse the token too, so that the audit log has it, and waits.
async fn wrong(request: &HttpRequest, console: &Console, token: &str) {
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && token.len() <= LONGEST_TOKEN {
        let asker = Asker::stranger(console.backstage.as_ref(), token, client_addr(request));
        drop(console.api.get(&asker, "/v1/whoami").await);
    }
    tokio::time::sleep(AFTER_A_WRONG_ONE).await;
}

fn door(console: &Console, theme: Theme, next: &str, wrong: bool) -> String {
    let body = html! {
        main.door #main {
            p.brand { (mark()) span { "Understudy" } }
            h1 { "Sign in" }
            p.soft { "Console of node " strong { (console.backstage.node()) } }
            @if console.backstage.is_open() { (open(next)) } @else { (form(next, wrong)) }
        }
    };
    layout::alone(theme, "Sign in", &body)
}

fn open(next: &str) -> Markup {
    html! {
        p {
            "No token is configured. Everybody who reaches this port may look, and nobody may change anything."
        }
        p { a.button.primary href=(next) { "Look around" } }
    }
}

fn form(next: &str, wrong: bool) -> Markup {
    html! {
        @if wrong {
            div.notice.bad role="alert" {
                (icon("bad"))
                p {
                    strong { "This token does not open the door." }
                    span { " It may be wrong, expired or revoked." }
                }
            }
        }
        form method="post" action="/console/login" {
            input type="hidden" name="next" value=(next);
            // For those who keep tokens in a password manager.
            input.sr type="text" name="username" value="understudy" autocomplete="username" tabindex="-1" aria-hidden="true" readonly;
            div.field {
                label for="token" { "Token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="token-hint";
                p.hint #token-hint {
                    "One of UNDERSTUDY_ADMIN_TOKEN and its like, or one that an admin made for you."
                }
            }
            div.buttons { button.primary { "Sign in" } }
        }
    }
}

/// Forgets who has signed in, and ends what the browser was given for it.
pub(super) async fn leave(request: HttpRequest, console: Data<Console>) -> HttpResponse {
    let mut answer = layout::answer(StatusCode::SEE_OTHER);
    for (sealed, forgotten) in cookies::all(&request, cookies::SIGNED_IN) {
        console.backstage.sign_out(&sealed).await;
        answer.cookie(forgotten);
    }
    answer
        .cookie(Flash::done("You have signed out.").cookie(&request))
        .insert_header((header::LOCATION, "/console/login"))
        .finish()
}

/// How somebody likes their pages.
#[derive(Deserialize)]
pub(super) struct Taste {
    theme: Option<String>,
    pace: Option<u32>,
    #[serde(default)]
    back: String,
}

/// Remembers how somebody likes their pages.
pub(super) async fn taste(request: HttpRequest, taste: web::Form<Taste>) -> HttpResponse {
    let mut answer = layout::answer(StatusCode::SEE_OTHER);
    if let Some(theme) = &taste.theme {
        answer.cookie(cookies::taste(&request, cookies::THEME, Theme::named(theme).name()));
    }
    if let Some(pace) = taste.pace.filter(|pace| PACES.contains(pace)) {
        answer.cookie(cookies::taste(&request, cookies::PACE, &pace.to_string()));
    }
    answer.insert_header((header::LOCATION, within(&taste.back))).finish()
}
