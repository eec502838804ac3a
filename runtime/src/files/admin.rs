//! Files for operators: how much is where, and taking a file away. What is in one is not shown here; see
//! [`transfer`].

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::error::FileError;
use super::info::{FileInfo, SpaceInfo};
use super::stored::StoredFile;
use super::verdicts::Shown;
use super::{Files, naming, transfer};
use crate::admin::asked::{Nothing, Query, body};
use crate::admin::note;
use crate::http::problem::{ApiError as _, Problem};

/// How long a check may take while somebody waits.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

pub(super) type Answer = Result<HttpResponse, Problem>;
pub(super) type Named = Path<(String, String)>;

/// Adds the resources.
pub(super) fn configure(app: &mut ServiceConfig, files: &Files) {
    let one = web::resource("/v1/files/{space}/{name}")
        .route(web::get().to(show))
        .route(web::put().to(transfer::put))
        .route(web::delete().to(delete));
    app.app_data(Data::new(files.clone()))
        .service(web::resource("/v1/files").route(web::get().to(spaces)))
        .service(web::resource("/v1/files/{space}").route(web::get().to(list)))
        .service(one)
        .service(web::resource("/v1/files/{space}/{name}/check").route(web::post().to(check)));
}

#[derive(Serialize)]
struct SpacesBody {
    spaces: Vec<SpaceInfo>,
    /// Behind which the next page begins.
    next: Option<String>,
}

#[derive(Serialize)]
struct FilesBody {
    space: String,
    files: Vec<FileBody>,
    /// Behind which the next page begins.
    next: Option<String>,
}

#[derive(Serialize)]
struct FileBody {
    #[serde(flatten)]
    info: FileInfo,
    /// What was said of it, where files are examined.
    verdict: Option<Shown>,
}

/// All that is known of one file.
#[derive(Serialize)]
pub(super) struct KnownFile {
    #[serde(flatten)]
    file: FileBody,
    /// Under which key it is, where it is encrypted.
    encryption: Option<KeyBody>,
}

#[derive(Serialize)]
struct KeyBody {
    key: String,
    /// Whether the node that was asked can open the file.
    opens: bool,
}

#[derive(Serialize)]
struct DeletedBody {
    deleted: bool,
}

#[derive(Serialize)]
struct CheckedBody {
    /// Whether its content is what was written.
    intact: bool,
    file: FileInfo,
}

pub(super) fn ok(body: &impl Serialize) -> HttpResponse {
    let no_store = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    HttpResponse::Ok().insert_header(no_store).json(body)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub(super) fn told(error: FileError) -> Problem {
    if let FileError::Database(error) = &error {
        let error = crate::error::chain(error);
        tracing::warn!(error, "a request of an operator about files failed at the database");
    }
    error.problem()
}

pub(super) fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_file", "There is no file of this name")
}

/// Reads where a page begins: behind something that was told, so it is a name.
fn after(query: &Query) -> Result<String, Problem> {
    let after = query.parsed("after", "the `next` of the page before", naming::checked)?;
    Ok(after.unwrap_or_default())
}

async fn spaces(files: Data<Files>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["after", "limit"])?;
    let (after, limit) = (after(&query)?, query.limit()?);
    let mut spaces = files.spaces(&after, limit + 1).await.map_err(told)?;
    let is_more = spaces.len() > limit as usize;
    spaces.truncate(limit as usize);
    let next = spaces.last().filter(|_| is_more).map(|last| last.name.clone());
    Ok(ok(&SpacesBody { spaces, next }))
}

async fn list(all: Data<Files>, request: HttpRequest, space: Path<String>) -> Answer {
    let query = Query::of(&request, &["after", "limit"])?;
    let (after, limit) = (after(&query)?, query.limit()?);
    let space = space.into_inner();
    let mut files = all.space(&space).list(&after, limit + 1).await.map_err(told)?;
    let is_more = files.len() > limit as usize;
    files.truncate(limit as usize);
    let next = files.last().filter(|_| is_more).map(|last| last.name.clone());
    let files = examined(&all, files).await.map_err(told)?;
    Ok(ok(&FilesBody { space, files, next }))
}

/// Puts beside files what was said of them, where they are examined.
async fn examined(files: &Files, infos: Vec<FileInfo>) -> Result<Vec<FileBody>, FileError> {
    let verdicts: Vec<Option<Shown>> = match &files.store()?.serving.judge {
        Some(judge) => judge.shown(&infos).await?.into_iter().map(Some).collect(),
        None => infos.iter().map(|_| None).collect(),
    };
    let bodies = infos.into_iter().zip(verdicts);
    Ok(bodies.map(|(info, verdict)| FileBody { info, verdict }).collect())
}

/// Tells what is known of a file, also of one that this node cannot read.
pub(super) async fn known(
    files: &Files,
    (space, name): (&str, &str),
) -> Result<Option<KnownFile>, FileError> {
    let Some(row) = files.space(space).row(name).await? else { return Ok(None) };
    let keys = &files.store()?.keys;
    let encryption = row
        .key
        .as_ref()
        .map(|key| KeyBody { key: key.under.clone(), opens: keys.opens(&row.content, key) });
    let file = examined(files, vec![row.info]).await?.pop();
    Ok(file.map(|file| KnownFile { file, encryption }))
}

/// Finds a file to be read: also one that nobody is served.
async fn found(files: &Files, (space, name): &(String, String)) -> Result<StoredFile, Problem> {
    files.space(space).find(name).await.map_err(told)?.ok_or_else(unknown)
}

async fn show(files: Data<Files>, request: HttpRequest, named: Named) -> Answer {
    Query::of(&request, &[])?;
    let (space, name) = named.into_inner();
    let known = known(&files, (&space, &name)).await.map_err(told)?;
    Ok(ok(&known.ok_or_else(unknown)?))
}

async fn delete(files: Data<Files>, request: HttpRequest, named: Named) -> Answer {
    Query::of(&request, &[])?;
    let (space, name) = named.into_inner();
    if !files.space(&space).delete(&name).await.map_err(told)? {
        return Err(unknown());
    }
    note(&request, format!("file {name} of {space}"));
    Ok(ok(&DeletedBody { deleted: true }))
}

async fn check(
    files: Data<Files>,
    request: HttpRequest,
    named: Named,
    bytes: web::Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let file = found(&files, &named).await?;
    let info = file.info().clone();
    let checked = tokio::time::timeout(CHECK_LIMIT, file.verify()).await;
    let intact = match checked {
        Ok(Ok(())) => true,
        Ok(Err(FileError::Damaged)) => false,
        Ok(Err(error)) => return Err(told(error)),
        Err(_) => {
            let title = "The file cannot be read within 20 s";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Problem::new(status, "file_check_too_long", title));
        }
    };
    note(&request, if intact { "intact" } else { "damaged" });
    Ok(ok(&CheckedBody { intact, file: info }))
}
