//! Contents for operators: bringing a file in, and taking one out, piece by piece. Each of both stands in the audit log, and
//! only administrators take something out.
//!
//! Who brings a file in can say its digest and what must be there; so whoever does not know what became of it asks again
//! without harm.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{self, Data, Payload, ServiceConfig};

use super::admin::{Answer, Named, ok, told, unknown};
use super::info::{PutOptions, PutWhen};
use super::{Files, UNKNOWN_TYPE, is_digest};
use crate::admin::asked::{Query, header};
use crate::admin::note;
use crate::http::problem::Problem;

/// Adds the resource of contents; the one of files has [`put`] besides what else can be asked of it.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/files/{space}/{name}/content").route(web::get().to(content)));
}

/// Writes a file.
pub(super) async fn put(
    files: Data<Files>,
    request: HttpRequest,
    named: Named,
    content: Payload,
) -> Answer {
    let query = Query::of(&request, &["sha256"])?;
    let right = "the SHA-256 of the content, as 64 hexadecimal digits";
    let sha256 = query.parsed("sha256", right, |text| is_digest(text).then(|| text.to_owned()))?;
    let options = PutOptions { when: when(&request)?, sha256 };
    let kind = header(&request, "content-type")?.unwrap_or(UNKNOWN_TYPE);
    let (space, name) = named.into_inner();
    let space = files.space(&space);
    space.fits(&name, announced(&request)).await.map_err(told)?;
    let written = space.put_with(options, (name.as_str(), kind), content).await;
    let info = written.map_err(told)?;
    note(&request, format!("{} bytes, version {}", info.bytes, info.version));
    Ok(ok(&info))
}

/// How long the body is announced to be.
fn announced(request: &HttpRequest) -> Option<u64> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    announced.and_then(|text| text.trim().parse::<u64>().ok())
}

/// Under which condition it is written, by RFC 9110.
fn when(request: &HttpRequest) -> Result<PutWhen, Problem> {
    match (header(request, "if-none-match")?, header(request, "if-match")?) {
        (None, None) => Ok(PutWhen::Always),
        (Some("*"), None) => Ok(PutWhen::Absent),
        (Some(_), None) => Err(bad_header("`If-None-Match` can only be `*`")),
        (None, Some(etag)) => version(etag).map(PutWhen::Version).ok_or_else(|| {
            bad_header("`If-Match` must be the version of a file, in double quotes")
        }),
        (Some(_), Some(_)) => {
            Err(bad_header("only one of `If-None-Match` and `If-Match` can be there"))
        }
    }
}

fn version(etag: &str) -> Option<String> {
    let version = etag.strip_prefix('"')?.strip_suffix('"')?;
    (!version.is_empty() && !version.contains('"')).then(|| version.to_owned())
}

fn bad_header(detail: &'static str) -> Problem {
    let (status, code) = (StatusCode::BAD_REQUEST, "bad_header");
    Problem::new(status, code, "A header of the request is not as expected").with_detail(detail)
}

/// Gives the content of a file; of one that was not found to be clean, where files are examined, to nobody.
async fn content(files: Data<Files>, request: HttpRequest, named: Named) -> Answer {
    Query::of(&request, &[])?;
    let (space, name) = named.into_inner();
    let file = files.space(&space).get(&name).await.map_err(told)?.ok_or_else(unknown)?;
    note(&request, format!("{} bytes, version {}", file.info().bytes, file.info().version));
    file.response(&request).await.map_err(told)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asked(headers: &[(&'static str, &'static str)]) -> Result<PutWhen, Problem> {
        let request = headers
            .iter()
            .fold(TestRequest::default(), |request, header| request.insert_header(*header));
        when(&request.to_http_request())
    }

    #[test]
    fn f1_a_condition_is_none_or_a_certain_one() {
        assert_eq!(asked(&[]).unwrap(), PutWhen::Always);
        assert_eq!(asked(&[("if-none-match", "*")]).unwrap(), PutWhen::Absent);
        let version = PutWhen::Version("v1".to_owned());
        assert_eq!(asked(&[("if-match", "\"v1\"")]).unwrap(), version);
        for (headers, named) in [
            (&[("if-none-match", "\"v1\"")][..], "`If-None-Match`"),
            (&[("if-match", "v1")], "`If-Match`"),
            (&[("if-match", "*")], "`If-Match`"),
            (&[("if-match", "\"\"")], "`If-Match`"),
            (&[("if-match", "\"a\", \"b\"")], "`If-Match`"),
            (&[("if-match", "\"a\""), ("if-none-match", "*")], "only one"),
        ] {
            let problem = asked(headers).unwrap_err();
            assert_eq!(problem.code, "bad_header");
            assert!(problem.detail.as_deref().unwrap().contains(named), "{headers:?}");
        }
    }
}
