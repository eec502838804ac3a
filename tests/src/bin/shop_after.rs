//! A small shop on Understudy. `shop_before` is the same shop on actix-web and actix-session, and
//! docs/porting-from-actix-session.md tells how the one became the other. Its pages are plain text.

use std::process::ExitCode;

use actix_web::HttpResponseBuilder;
use actix_web::http::header::LOCATION;
use serde::Deserialize;
use understudy::prelude::*;

type Answer = Result<HttpResponse, SessionError>;

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
    remember: Option<String>,
}

#[derive(Deserialize)]
struct Order {
    item: String,
}

/// Shows who is logged in, what is in the cart, and what there is to say about the last step.
async fn shop(session: Session) -> Answer {
    let user = session.user().await?;
    let cart: Vec<String> = session.get("cart").await?.unwrap_or_default();
    let flash = match session.get::<String>("flash").await? {
        Some(flash) => session.remove("flash").await?.then_some(flash), // of two tabs one shows it
        None => None,
    };
    Ok(page(user.as_deref(), &cart, flash.as_deref()))
}

async fn add(session: Session, order: web::Form<Order>) -> Answer {
    session.append("cart", &order.item).await?;
    session.insert("flash", "It is in your cart.").await?;
    Ok(to_shop().finish())
}

async fn checkout(session: Session) -> Answer {
    let flash = match session.user().await? {
        Some(_) => {
            session.remove("cart").await?;
            let order = session.increment("orders", 1).await?;
            format!("Thank you for order {order}.")
        }
        None => "Log in first.".to_owned(),
    };
    session.insert("flash", &flash).await?;
    Ok(to_shop().finish())
}

async fn login(session: Session, form: web::Form<Login>) -> Answer {
    if !is_right(&form) {
        session.insert("flash", "Wrong name or password.").await?;
        return Ok(to_shop().finish());
    }
    let remembered = form.remember.as_ref().map(|_| LoginOptions::remembered());
    session.login_with(&form.user, remembered.unwrap_or_default()).await?;
    session.insert("flash", &format!("Hello, {}.", form.user)).await?;
    Ok(to_shop().finish())
}

async fn logout(session: Session) -> Answer {
    session.logout().await?;
    Ok(to_shop().finish())
}

/// A real shop looks it up.
fn is_right(login: &Login) -> bool {
    ["ann", "bob"].contains(&login.user.as_str()) && login.password == "hunter2"
}

fn page(user: Option<&str>, cart: &[String], flash: Option<&str>) -> HttpResponse {
    let user = user.unwrap_or("guest");
    let cart = if cart.is_empty() { "empty".to_owned() } else { cart.join(", ") };
    let flash = flash.map(|flash| format!("{flash}\n")).unwrap_or_default();
    HttpResponse::Ok().body(format!("{flash}{user}, cart: {cart}\n"))
}

fn to_shop() -> HttpResponseBuilder {
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((LOCATION, "/"));
    answer
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(shop))
        .route("/add", web::post().to(add))
        .route("/checkout", web::post().to(checkout))
        .route("/login", web::post().to(login))
        .route("/logout", web::post().to(logout));
}

fn main() -> ExitCode {
    understudy::main(routes)
}
