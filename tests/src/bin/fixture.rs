//! The application of the cluster tests: small routes that do one thing to the session each.
//!
//! It is written against the public API only, as a stranger would write it. Routes that change
//! something take POST; GET works too where a test wants a plain link, so that retries by a balancer
//! can be seen.

use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use understudy::prelude::*;
use understudy::runtime::http::{absolute_url, client_addr};
use understudy::session::Lockout;

#[path = "fixture/basket.rs"] // beside this file they would be binaries of their own
mod basket;
#[path = "fixture/blocking.rs"]
mod blocking;
#[path = "fixture/caching.rs"]
mod caching;
#[path = "fixture/coherence.rs"]
mod coherence;
#[path = "fixture/health.rs"]
mod health;
#[path = "fixture/jobs.rs"]
mod jobs;
#[path = "fixture/kin.rs"]
mod kin;
#[path = "fixture/notes.rs"]
mod notes;
#[path = "fixture/priced.rs"]
mod priced;
#[path = "fixture/realtime.rs"]
mod realtime;
#[path = "fixture/scanner.rs"]
mod scanner;
#[path = "fixture/shared.rs"]
mod shared;
#[path = "fixture/together.rs"]
mod together;

type Answer = Result<HttpResponse, SessionError>;

/// The attribute that /incr counts.
const COUNTER: &str = "counter";

#[derive(Deserialize)]
struct Pause {
    /// Waits in the handler, between looking at the session and changing it.
    #[serde(default)]
    sleep: u64,
}

impl Pause {
    async fn wait(&self) {
        if self.sleep > 0 {
            tokio::time::sleep(Duration::from_millis(self.sleep)).await;
        }
    }
}

#[derive(Deserialize)]
struct Pair {
    k: String,
    v: String,
}

#[derive(Deserialize)]
struct Key {
    k: String,
}

#[derive(Deserialize)]
struct User {
    user: String,
}

#[derive(Deserialize)]
struct Long {
    user: String,
    #[serde(default)]
    idle_s: u64,
}

#[derive(Deserialize)]
struct Recent {
    ms: u64,
}

#[derive(Deserialize)]
struct Guess {
    user: String,
    right: bool,
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

/// Adds one; with `sleep`, reads before and waits, as handlers do that lose updates elsewhere.
async fn incr(session: Session, pause: web::Query<Pause>) -> Answer {
    if pause.sleep > 0 {
        session.get::<i64>(COUNTER).await?;
        pause.wait().await;
    }
    let value = session.increment(COUNTER, 1).await?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

/// Adds one through a closure, which may run more than once.
async fn update(session: Session) -> Answer {
    let change = |count: &mut i64| {
        *count += 1;
        *count
    };
    let value = session.update(COUNTER, change).await?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

async fn read(session: Session) -> Answer {
    let value = session.get::<i64>(COUNTER).await?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

async fn set(session: Session, pair: web::Query<Pair>) -> Answer {
    session.insert(&pair.k, &pair.v).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn get(session: Session, key: web::Query<Key>) -> Answer {
    let value = session.get::<serde_json::Value>(&key.k).await?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

async fn remove(session: Session, key: web::Query<Key>) -> Answer {
    let removed = session.remove(&key.k).await?;
    Ok(HttpResponse::Ok().json(json!({ "removed": removed })))
}

async fn append(session: Session, pair: web::Query<Pair>) -> Answer {
    let length = session.append(&pair.k, &pair.v).await?;
    Ok(HttpResponse::Ok().json(json!({ "length": length })))
}

async fn clear(session: Session) -> Answer {
    session.clear().await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn login(session: Session, user: web::Query<User>) -> Answer {
    session.login(&user.user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A login that asks for longer than usual; 0: as long as it may.
async fn login_long(session: Session, long: web::Query<Long>) -> Answer {
    let mut options = LoginOptions::remembered();
    if long.idle_s > 0 {
        options.idle = Some(Duration::from_secs(long.idle_s));
    }
    session.login_with(&long.user, options).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn reauthenticate(session: Session, user: web::Query<User>) -> Answer {
    session.reauthenticate(&user.user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Something that only who has just shown who they are may do.
async fn recent(session: Session, recent: web::Query<Recent>) -> Answer {
    session.require_recent(Duration::from_millis(recent.ms)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What a page asks by itself, again and again: no use of the session.
async fn poll(session: NoTouch) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "info": session.info().await? })))
}

/// A login with a password that is right or not, as the test says.
async fn guess(
    request: HttpRequest,
    lockout: Lockout,
    session: Session,
    guess: web::Query<Guess>,
) -> Result<HttpResponse, actix_web::Error> {
    let attempt = lockout.attempt(&guess.user, client_addr(&request)).await?;
    if !guess.right {
        return Ok(HttpResponse::Unauthorized().finish());
    }
    attempt.succeeded().await?;
    session.login(&guess.user).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn logout(session: Session) -> Answer {
    session.logout().await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn end_others(session: Session) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "ended": session.end_others().await? })))
}

async fn whoami(session: Session) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "user": session.user().await? })))
}

/// Looks at the session, takes its time, writes at the end: the request that logout must win against.
async fn slow_write(session: Session, slow: web::Query<Slow>) -> Answer {
    let user = session.user().await?;
    tokio::time::sleep(Duration::from_millis(slow.ms)).await;
    let value = session.increment("slow", 1).await?;
    Ok(HttpResponse::Ok().json(json!({ "user": user, "value": value })))
}

async fn rotate(session: Session) -> Answer {
    session.rotate().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Everything a handler can know about the session.
async fn all(session: Session) -> Answer {
    Ok(HttpResponse::Ok().json(json!({
        "values": session.entries().await?,
        "info": session.info().await?,
        "id": session.id_for_logs(),
    })))
}

/// Asks for no session.
async fn nothing() -> impl Responder {
    "nothing"
}

/// Asks for no session and takes its time: a request in flight while the node is told to stop.
async fn sleep(slow: web::Query<Slow>) -> impl Responder {
    tokio::time::sleep(Duration::from_millis(slow.ms)).await;
    "slept"
}

/// Sends the client to another page, under the name that browsers know.
async fn moved(request: HttpRequest) -> HttpResponse {
    let location = absolute_url(&request, "/read");
    HttpResponse::SeeOther().insert_header(("location", location)).finish()
}

/// A mistake of the application.
async fn panic() -> HttpResponse {
    panic!("a handler that panics, as a test asked for")
}

fn routes(app: &mut web::ServiceConfig) {
    let both = |path: &str| web::resource(path.to_owned());
    app.service(both("/incr").to(incr))
        .service(both("/update").to(update))
        .service(both("/set").to(set))
        .service(both("/remove").to(remove))
        .service(both("/append").to(append))
        .service(both("/clear").to(clear))
        .service(both("/login").to(login))
        .service(both("/login-long").to(login_long))
        .service(both("/reauthenticate").to(reauthenticate))
        .service(both("/guess").to(guess))
        .service(both("/logout").to(logout))
        .service(both("/end-others").to(end_others))
        .service(both("/rotate").to(rotate))
        .service(both("/slow-write").to(slow_write))
        .service(both("/sleep").to(sleep))
        .service(both("/nothing").to(nothing))
        .service(both("/moved").to(moved))
        .service(both("/panic").to(panic))
        .route("/read", web::get().to(read))
        .route("/get", web::get().to(get))
        .route("/whoami", web::get().to(whoami))
        .route("/recent", web::get().to(recent))
        .route("/poll", web::get().to(poll))
        .route("/all", web::get().to(all))
        .configure(blocking::routes)
        .configure(caching::routes)
        .configure(priced::routes)
        .configure(coherence::routes)
        .configure(realtime::routes)
        .configure(together::routes)
        .configure(kin::routes)
        .configure(shared::routes)
        .configure(|app| understudy::readymade::files(app, 1_000_000))
        .configure(jobs::routes);
}

/// What a test says to this node alone.
#[expect(
    clippy::disallowed_methods,
    reason = "the fixture has options that Understudy does not know"
)]
fn option(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() -> ExitCode {
    understudy::run(|node| {
        let release = basket::release(option);
        let node = node.routes(move |app: &mut web::ServiceConfig| {
            routes(app);
            basket::routes(app, release);
        });
        let node = health::check(basket::schemas(node, release), option);
        let node = scanner::scanner(node, option);
        notes::hooks(jobs::handlers(node), option)
    })
}
