//! A small shop on actix-web and actix-session. `shop_after` is the same shop on Understudy, and
//! docs/porting-from-actix-session.md tells how the one became the other. Its pages are plain text.

use actix_session::storage::RedisSessionStore;
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, CookieJar, Key};
use actix_web::http::header::LOCATION;
use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer, web};
use serde::Deserialize;

/// The session ends with the browser. Who wants to be remembered gets a second cookie, which logs in again.
const REMEMBER: &str = "remember";

type Answer = actix_web::Result<HttpResponse>;

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
async fn shop(request: HttpRequest, key: web::Data<Key>, session: Session) -> Answer {
    let user = user(&request, &key, &session)?;
    let cart: Vec<String> = session.get("cart")?.unwrap_or_default();
    let flash = session.remove_as::<String>("flash").and_then(Result::ok);
    Ok(page(user.as_deref(), &cart, flash.as_deref()))
}

async fn add(session: Session, order: web::Form<Order>) -> Answer {
    let mut cart: Vec<String> = session.get("cart")?.unwrap_or_default();
    cart.push(order.into_inner().item);
    session.insert("cart", cart)?;
    session.insert("flash", "It is in your cart.")?;
    Ok(to_shop().finish())
}

async fn checkout(request: HttpRequest, key: web::Data<Key>, session: Session) -> Answer {
    let flash = match user(&request, &key, &session)? {
        Some(_) => {
            session.remove("cart");
            session.update_or("orders", 1_i64, |orders| orders + 1)?;
            let order = session.get::<i64>("orders")?.unwrap_or_default();
            format!("Thank you for order {order}.")
        }
        None => "Log in first.".to_owned(),
    };
    session.insert("flash", flash)?;
    Ok(to_shop().finish())
}

async fn login(key: web::Data<Key>, session: Session, form: web::Form<Login>) -> Answer {
    if !is_right(&form) {
        session.insert("flash", "Wrong name or password.")?;
        return Ok(to_shop().finish());
    }
    session.renew();
    session.insert("user", &form.user)?;
    session.insert("flash", format!("Hello, {}.", form.user))?;
    let mut answer = to_shop();
    if form.remember.is_some() {
        let cookie = Cookie::build(REMEMBER, form.user.clone()).path("/").http_only(true);
        let cookie = cookie.secure(true).max_age(Duration::days(30)).finish();
        let mut jar = CookieJar::new();
        jar.private_mut(&key).add(cookie);
        for cookie in jar.delta() {
            answer.cookie(cookie.clone());
        }
    }
    Ok(answer.finish())
}

async fn logout(session: Session) -> Answer {
    session.purge();
    let mut cookie = Cookie::build(REMEMBER, "").path("/").finish();
    cookie.make_removal();
    Ok(to_shop().cookie(cookie).finish())
}

/// Who is logged in: by the session, or by the cookie of those who want to be remembered.
fn user(request: &HttpRequest, key: &Key, session: &Session) -> actix_web::Result<Option<String>> {
    if let Some(user) = session.get("user")? {
        return Ok(Some(user));
    }
    let mut jar = CookieJar::new();
    if let Some(cookie) = request.cookie(REMEMBER) {
        jar.add_original(cookie);
    }
    let Some(cookie) = jar.private(key).get(REMEMBER) else { return Ok(None) };
    session.renew();
    session.insert("user", cookie.value())?;
    Ok(Some(cookie.value().to_owned()))
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

#[expect(clippy::disallowed_methods, reason = "the shop has options of its own")]
fn option(name: &str) -> std::io::Result<String> {
    std::env::var(name).map_err(std::io::Error::other)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let key = Key::try_from(option("SHOP_KEY")?.as_bytes()).map_err(std::io::Error::other)?;
    let store = RedisSessionStore::new(option("SHOP_REDIS_URL")?).await;
    let store = store.map_err(std::io::Error::other)?;
    let app = move || {
        App::new()
            .wrap(SessionMiddleware::new(store.clone(), key.clone()))
            .app_data(web::Data::new(key.clone()))
            .configure(routes)
    };
    HttpServer::new(app).bind(option("SHOP_BIND")?)?.run().await
}
