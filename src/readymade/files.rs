//! Files over HTTP, for front ends: each user has files of their own (`UNDERSTUDY_FILES_API`).
//!
//! | call | answer |
//! |---|---|
//! | `GET /api/files?after=..&limit=..` | `{"files":[..],"next":..}`, by name |
//! | `POST /api/files`, a form with files | `{"files":[..]}`, as they were saved |
//! | `GET /api/files/{name}` | the file, or ranges of it |
//! | `PUT /api/files/{name}`, any body | what is known of it |
//! | `DELETE /api/files/{name}` | 204 |
//! | `POST /api/files/{name}/link`, `{"to":"read","seconds":300}` or `{"to":"write","once":true}` | `{"url":..,"expires":..}` |
//!
//! With `?upload=..`, `PUT` and `POST` tell the pages of the session how far they are.
//!
//! The files of a user are in a space of that name. Who is not logged in has none.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::StatusCode;
use actix_web::http::header::{self, CacheControl, CacheDirective};
use serde::{Deserialize, Serialize};
use understudy_runtime::files::{LINK_LIFE, Link};
use understudy_runtime::http::absolute_url;

use super::strict_json;
use crate::prelude::*;

/// Longest name that a page may give an upload.
const LONGEST_UPLOAD: usize = 64;
/// Longest name of a space, less what stands before that of a user.
const LONGEST_USER: usize = 250;
/// How many files are listed at most, and when nothing is said.
const MOST_LISTED: u32 = 1_000;
const USUALLY_LISTED: u32 = 100;

type Answer = Result<HttpResponse, actix_web::Error>;

/// How many bytes a user may have.
#[derive(Debug, Clone, Copy)]
struct Quota(u64);

/// Adds the routes; a user may have so many bytes.
pub(super) fn routes(app: &mut web::ServiceConfig, user_bytes: u64) {
    app.service(
        web::scope("/api/files")
            .app_data(web::Data::new(Quota(user_bytes)))
            .service(web::resource("").get(list).head(list).post(save_form))
            .service(web::resource("/{name}").get(get).head(get).put(put).delete(delete))
            .service(web::resource("/{name}/link").post(link)),
    );
}

#[derive(Serialize)]
struct Listed {
    files: Vec<FileInfo>,
    /// Behind which the next page begins.
    next: Option<String>,
}

#[derive(Serialize)]
struct Linked {
    url: String,
    /// RFC 3339, UTC.
    expires: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: String,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// What the page calls this upload.
    upload: Option<String>,
}

/// What a link is for.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    Read,
    Write,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    to: Purpose,
    seconds: Option<u64>,
    bytes: Option<u64>,
    /// Whether it is good for one upload only.
    #[serde(default)]
    once: bool,
}

/// Finds the space of the user.
async fn space(files: &Files, session: &Session, quota: &Quota) -> Result<Space, actix_web::Error> {
    let Some(user) = session.user().await? else {
        let title = "Files are there for users who are logged in";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "file_needs_user", title).into());
    };
    let Some(name) = space_of(&user) else {
        let title = "The name of this user is too long to have files";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "file_bad_user", title).into());
    };
    Ok(files.space(&name).quota(quota.0))
}

/// Names the space of a user. No two users have the same.
fn space_of(user: &str) -> Option<String> {
    let mut name = String::from("user.");
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'@') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    (name.len() <= LONGEST_USER).then_some(name)
}

async fn list(
    files: Files,
    session: Session,
    quota: web::Data<Quota>,
    page: web::Query<Page>,
) -> Answer {
    let limit = page.limit.unwrap_or(USUALLY_LISTED).clamp(1, MOST_LISTED);
    let space = space(&files, &session, &quota).await?;
    let mut files = space.list(&page.after, limit + 1).await?;
    let is_more = files.len() > limit as usize;
    files.truncate(limit as usize);
    let next = files.last().filter(|_| is_more).map(|last| last.name.clone());
    Ok(fresh().json(Listed { files, next }))
}

async fn get(
    request: HttpRequest,
    files: Files,
    session: Session,
    quota: web::Data<Quota>,
    name: web::Path<String>,
) -> Answer {
    let space = space(&files, &session, &quota).await?;
    let file = space.get(&name).await?.ok_or_else(unknown)?;
    Ok(file.response(&request).await?)
}

/// What an upload comes with.
struct Upload {
    session: Session,
    space: Space,
    /// What pages are told of it, and how long it is.
    told: Option<(String, Option<u64>)>,
}

impl Upload {
    async fn of(
        request: &HttpRequest,
        (files, session): (Files, Session),
        quota: &Quota,
    ) -> Result<Self, actix_web::Error> {
        let told = web::Query::<Told>::from_query(request.query_string())?.into_inner().upload;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_good = |upload: &String| {
            (1..=LONGEST_UPLOAD).contains(&upload.len()) && upload.bytes().all(fits)
        };
        if told.as_ref().is_some_and(|upload| !is_good(upload)) {
            let title = "upload must be 1 to 64 of A-Z a-z 0-9 . _ -";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = Problem::new(status, "file_bad_upload", title);
            return Err(problem.with_member("field", "upload").into());
        }
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let space = space(&files, &session, quota).await?;
        Ok(Self { session, space, told: told.map(|upload| (upload, length)) })
    }
}

async fn put(
    request: HttpRequest,
    (files, session): (Files, Session),
    quota: web::Data<Quota>,
    name: web::Path<String>,
    body: web::Payload,
) -> Answer {
    let Upload { session, space, told } = Upload::of(&request, (files, session), &quota).await?;
    let saved = match told {
        Some((upload, of)) => {
            let body = session.upload_progress(&upload, of, body);
            Box::pin(space.save(&request, &name, body)).await?
        }
        None => Box::pin(space.save(&request, &name, body)).await?,
    };
    Ok(fresh().json(saved))
}

async fn save_form(
    request: HttpRequest,
    (files, session): (Files, Session),
    quota: web::Data<Quota>,
    body: web::Payload,
) -> Answer {
    let Upload { session, space, told } = Upload::of(&request, (files, session), &quota).await?;
    let files = match told {
        Some((upload, of)) => {
            let body = session.upload_progress(&upload, of, body);
            space.save_form(&request, body).await?
        }
        None => space.save_form(&request, body).await?,
    };
    Ok(fresh().json(Listed { files, next: None }))
}

async fn delete(
    files: Files,
    session: Session,
    quota: web::Data<Quota>,
    name: web::Path<String>,
) -> Answer {
    let space = space(&files, &session, &quota).await?;
    if !space.delete(&name).await? {
        return Err(unknown().into());
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn link(
    request: HttpRequest,
    (files, session): (Files, Session),
    quota: web::Data<Quota>,
    name: web::Path<String>,
    body: web::Bytes,
) -> Answer {
    let wish: Wish = strict_json::parse_object(&body)?;
    let space = space(&files, &session, &quota).await?;
    let life = wish.seconds.map_or(LINK_LIFE, Duration::from_secs);
    let link: Link = match wish.to {
        Purpose::Read if wish.once => {
            let title = "once is for links to write";
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "file_bad_link", title);
            return Err(problem.with_member("field", "once").into());
        }
        Purpose::Read => space.link_to_read(&name, ReadLink { life, ..ReadLink::default() })?,
        Purpose::Write => {
            let space = match wish.bytes {
                Some(bytes) => space.at_most(bytes),
                None => space,
            };
            if wish.once {
                space.link_to_write_once(&name, life)?
            } else {
                space.link_to_write(&name, life)?
            }
        }
    };
    let expires = UNIX_EPOCH + Duration::from_millis(link.expires_ms);
    let expires = humantime::format_rfc3339_seconds(expires).to_string();
    Ok(fresh().json(Linked { url: absolute_url(&request, &link.path), expires }))
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_file", "There is no file of this name")
}

/// What is known of files must not be kept by caches on the way.
fn fresh() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header(CacheControl(vec![CacheDirective::NoStore]));
    response.insert_header((header::VARY, "Cookie"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_users_share_a_space() {
        let users = ["ann", "a/b", "a%2Fb", "a\\b", "..", "a@b.example", "\u{fc}", "Ann", ""];
        let spaces: std::collections::HashSet<String> =
            users.iter().map(|user| space_of(user).unwrap()).collect();
        assert_eq!(spaces.len(), users.len());
        assert_eq!(space_of("a/b").as_deref(), Some("user.a%2Fb"));
        assert_eq!(space_of(&"/".repeat(100)), None);
    }
}
