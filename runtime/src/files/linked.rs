//! The route of links to files: whoever has a link reads or writes one file with it, at any node, without a session.
//!
//! The path is not taken apart before its signature was checked, and every refusal is the same: nobody learns from it whether
//! there is such a file, such a key, or what was wrong.

use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::error::FileError;
use super::links::{Asked, Grant, Uses, once_key};
use super::serve::not_there;
use super::{Files, naming};

/// Below which path links are.
pub(super) const ROOT: &str = "/.well-known/understudy/files";

/// Adds the route.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource(format!("{ROOT}/{{file:.*}}")).to(serve));
}

async fn serve(
    request: HttpRequest,
    files: Files,
    body: Payload,
) -> Result<HttpResponse, FileError> {
    let uri = request.uri();
    let asked = Asked {
        method: request.method().as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
    };
    let grant = files.store()?.serving.signer.open(asked).ok_or_else(refused)?;
    // It is a path that some node wrote.
    let (space, name) = named(uri.path()).ok_or_else(refused)?;
    match grant {
        Grant::Read(disposition) => {
            let Some(file) = files.space(&space).get(&name).await? else { return Ok(not_there()) };
            metrics::counter!("understudy_files_links_total", "result" => "read").increment(1);
            file.response_as(&request, disposition).await
        }
        Grant::Write(bounds, uses) => {
            let mut space = files.space(&space);
            space.bounds = bounds;
            let info = match uses {
                Uses::Any => Box::pin(space.save(&request, &name, body)).await?,
                Uses::Once(id) => {
                    let named = (name.as_str(), once_key(id));
                    Box::pin(space.save_once(&request, named, body)).await.map_err(used)?
                }
            };
            metrics::counter!("understudy_files_links_total", "result" => "write").increment(1);
            Ok(HttpResponse::Ok().json(info))
        }
    }
}

fn refused() -> FileError {
    metrics::counter!("understudy_files_links_total", "result" => "refused").increment(1);
    FileError::LinkRefused
}

/// The only condition of such an upload is that there was none. Who has the link may know that.
fn used(error: FileError) -> FileError {
    if !matches!(error, FileError::Changed) {
        return error;
    }
    metrics::counter!("understudy_files_links_total", "result" => "refused").increment(1);
    FileError::LinkUsed
}

/// Takes apart a path that was written by [`Space::link_to_read`](super::Space::link_to_read).
fn named(path: &str) -> Option<(String, String)> {
    let (space, name) = path.strip_prefix(ROOT)?.strip_prefix('/')?.split_once('/')?;
    Some((naming::checked(&decoded(space)?)?, naming::checked(&decoded(name)?)?))
}

fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, others) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = others;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_link_is_read_as_it_was_written() {
        let read = |tail: &str| named(&format!("{ROOT}/{tail}"));
        let expected = Some(("a b".to_owned(), "\u{fc}.%2e".to_owned()));
        assert_eq!(read("a%20b/%C3%BC.%252e"), expected);
        for bad in ["", "a", "a/", "a/%", "a/%f", "a/%ff", "a/..", "a/b%2Fc", "a/b/c"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
