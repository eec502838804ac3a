//! The other ways to keep a session, each as a small actix-web application in a process of its own.
//!
//! They get the best that can be had without a second thought: the same number of workers as a
//! node, no logging, no middleware but what is compared, and where fred is used, one connection per
//! worker, driven by the thread that uses it.

use std::io;

use actix_session::storage::RedisSessionStore;
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::error::ErrorInternalServerError;
use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface, LuaInterface};
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy, TcpConfig};
use serde::Deserialize;
use serde_json::json;

/// Threads that serve requests, for peers and nodes alike.
pub const WORKERS: usize = 2;

/// Adds one to a field of a hash, which is what a session does that counts.
const INCREMENT: &str = "return redis.call('HINCRBY', KEYS[1], 'counter', 1)";

/// Which application a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// actix-web and nothing else.
    Bare,
    /// actix-session with its Redis store.
    ActixSession,
    /// One command through fred per request.
    Fred,
}

impl Mode {
    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::ActixSession => "actix-session",
            Self::Fred => "fred",
        }
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Bare, Self::ActixSession, Self::Fred];
        all.into_iter().find(|mode| mode.name() == name)
    }
}

/// Serves on a port of 127.0.0.1 until the process is ended.
///
/// # Errors
/// The port is taken, or Redis cannot be reached.
pub async fn serve(mode: Mode, port: u16, redis_url: &str) -> io::Result<()> {
    match mode {
        Mode::Bare => serve_bare(port).await,
        Mode::ActixSession => serve_actix_session(port, redis_url).await,
        Mode::Fred => serve_fred(port, redis_url.to_owned()).await,
    }
}

async fn serve_bare(port: u16) -> io::Result<()> {
    let app = || App::new().route("/nothing", web::get().to(nothing));
    HttpServer::new(app).workers(WORKERS).bind(("127.0.0.1", port))?.run().await
}

async fn nothing() -> impl Responder {
    "nothing"
}

async fn serve_actix_session(port: u16, redis_url: &str) -> io::Result<()> {
    let store = RedisSessionStore::new(redis_url).await;
    let store = store.map_err(io::Error::other)?;
    let key = Key::generate();
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        App::new()
            .wrap(sessions.cookie_secure(false).build())
            .route("/nothing", web::get().to(nothing))
            .route("/read", web::get().to(read))
            .route("/incr", web::post().to(increment))
            .route("/set", web::post().to(set))
    };
    HttpServer::new(app).workers(WORKERS).bind(("127.0.0.1", port))?.run().await
}

async fn read(session: Session) -> actix_web::Result<HttpResponse> {
    let value = session.get::<i64>("counter")?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

async fn increment(session: Session) -> actix_web::Result<HttpResponse> {
    let value = session.get::<i64>("counter")?.unwrap_or(0) + 1;
    session.insert("counter", value)?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

#[derive(Deserialize)]
struct Pair {
    k: String,
    v: String,
}

async fn set(session: Session, pair: web::Query<Pair>) -> actix_web::Result<HttpResponse> {
    session.insert(&pair.k, &pair.v)?;
    Ok(HttpResponse::NoContent().finish())
}

/// A connection of a worker, with the hash of the script.
struct Worker {
    client: Client,
    increment: String,
}

async fn serve_fred(port: u16, redis_url: String) -> io::Result<()> {
    let app = move || {
        let url = redis_url.clone();
        App::new()
            .data_factory(move || connect(url.clone()))
            .route("/nothing", web::get().to(nothing))
            .route("/read", web::get().to(fred_get))
            .route("/incr", web::post().to(fred_evalsha))
            .route("/set", web::post().to(fred_set))
    };
    HttpServer::new(app).workers(WORKERS).bind(("127.0.0.1", port))?.run().await
}

async fn connect(url: String) -> Result<Worker, fred::error::Error> {
    let client = Builder::from_config(Config::from_url(&url)?)
        .with_connection_config(|connection| {
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
        })
        .set_policy(ReconnectPolicy::default())
        .build()?;
    client.init().await?;
    let increment = client.script_load(INCREMENT).await?;
    Ok(Worker { client, increment })
}

#[derive(Deserialize)]
struct Named {
    k: String,
}

async fn fred_get(
    worker: web::Data<Worker>,
    named: web::Query<Named>,
) -> actix_web::Result<HttpResponse> {
    let value: Option<String> =
        worker.client.get(&named.k).await.map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().json(json!({ "value": value.map(|value| value.len()) })))
}

async fn fred_evalsha(
    worker: web::Data<Worker>,
    named: web::Query<Named>,
) -> actix_web::Result<HttpResponse> {
    let value: i64 = worker
        .client
        .evalsha(worker.increment.as_str(), named.k.as_str(), ())
        .await
        .map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().json(json!({ "value": value })))
}

async fn fred_set(
    worker: web::Data<Worker>,
    pair: web::Query<Pair>,
) -> actix_web::Result<HttpResponse> {
    let () = worker
        .client
        .set(&pair.k, &pair.v, None, None, false)
        .await
        .map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::NoContent().finish())
}
