//! Saves what requests bring: a body as one file, or the files of a form.

use std::fmt::Display;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream;

use super::error::FileError;
use super::forms::Form;
use super::info::{FileInfo, PutOptions, PutWhen};
use super::naming::{UNKNOWN_TYPE, safe_name};
use super::upload::hex;
use super::{DIGITS, Space};

impl Space {
    /// Saves the body of a request as a file, with what its head says of it: `Content-Type`; `If-None-Match: *` or `If-Match` with
    /// one tag as the condition; `Content-Digest` or `Repr-Digest` with `sha-256` as the digest. A body that is announced to
    /// be too large, for a file or for what the space has left, is refused before any of it is read.
    ///
    /// ```
    /// use actix_web::{HttpRequest, HttpResponse, web};
    /// use understudy_runtime::files::{FileError, Files};
    ///
    /// async fn upload(
    ///     request: HttpRequest,
    ///     files: Files,
    ///     name: web::Path<String>,
    ///     body: web::Payload,
    /// ) -> Result<HttpResponse, FileError> {
    ///     let saved = files.space("papers").save(&request, &name, body).await?;
    ///     Ok(HttpResponse::Ok().json(saved))
    /// }
    /// # let _ = web::put().to(upload);
    /// ```
    ///
    /// # Errors
    /// As [`put_with`](Self::put_with), and [`FileError::BadHeader`].
    pub async fn save<S, E>(
        &self,
        request: &HttpRequest,
        name: &str,
        body: S,
    ) -> Result<FileInfo, FileError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let when = condition(request.headers())?;
        self.save_when(request, name, body, when).await
    }

    /// The same, once for this key, and under no other condition.
    pub(super) async fn save_once<S, E>(
        &self,
        request: &HttpRequest,
        (name, key): (&str, String),
        body: S,
    ) -> Result<FileInfo, FileError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        for (header, field) in
            [(header::IF_MATCH, "If-Match"), (header::IF_NONE_MATCH, "If-None-Match")]
        {
            if request.headers().contains_key(header) {
                return Err(FileError::BadHeader { field });
            }
        }
        self.save_when(request, name, body, PutWhen::Once(key)).await
    }

    async fn save_when<S, E>(
        &self,
        request: &HttpRequest,
        name: &str,
        body: S,
        when: PutWhen,
    ) -> Result<FileInfo, FileError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let headers = request.headers();
        let announced = text(headers, header::CONTENT_LENGTH.as_str());
        let announced = announced.and_then(|length| length.trim().parse::<u64>().ok());
        self.fits(name, announced).await?;
        let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or(UNKNOWN_TYPE);
        let options = PutOptions { when, sha256: digest(headers)? };
        self.put_with(options, (name, kind), body).await
    }

    /// Saves all files of a form (`multipart/form-data`), each under the [safe part](safe_name) of the name that the browser
    /// says; its other fields are passed over. Of two files of one name the later counts. Where one cannot be saved, those before
    /// it stay. [`Form`] leaves more to the application.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`FileError::BadForm`].
    pub async fn save_form<S, E>(
        &self,
        request: &HttpRequest,
        body: S,
    ) -> Result<Vec<FileInfo>, FileError>
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Display + 'static,
    {
        let mut form = Form::of(request, body)?;
        let mut saved = Vec::new();
        while let Some(part) = form.next().await? {
            // A field for a file of which none was chosen has an empty name.
            let Some(given) = part.file_name().filter(|given| !given.is_empty()) else { continue };
            let (name, kind) = (safe_name(given), part.content_type().to_owned());
            saved.push(self.put(&name, &kind, part.content()).await?);
        }
        Ok(saved)
    }
}

/// A header that is there once and is text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads on what it depends whether the file is saved.
fn condition(headers: &HeaderMap) -> Result<PutWhen, FileError> {
    let all = |name: header::HeaderName| -> Vec<&str> {
        headers.get_all(name).map(|value| value.to_str().unwrap_or("?").trim()).collect()
    };
    let (is_one, is_none) = (all(header::IF_MATCH), all(header::IF_NONE_MATCH));
    match (is_one.as_slice(), is_none.as_slice()) {
        ([], []) => Ok(PutWhen::Always),
        ([], ["*"]) => Ok(PutWhen::Absent),
        ([tag], []) => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = version.filter(|version| !version.is_empty() && !version.contains('"'));
            let version = version.ok_or(FileError::BadHeader { field: "If-Match" })?;
            Ok(PutWhen::Version(version.to_owned()))
        }
        ([], _) => Err(FileError::BadHeader { field: "If-None-Match" }),
        (_, _) => Err(FileError::BadHeader { field: "If-Match" }),
    }
}

/// Reads the digest that is announced (RFC 9530); one of another kind than SHA-256 counts as none.
fn digest(headers: &HeaderMap) -> Result<Option<String>, FileError> {
    let told = text(headers, "content-digest").or_else(|| text(headers, "repr-digest"));
    let members = told.unwrap_or_default().split(',').map(str::trim);
    let Some(value) = members.filter_map(|member| member.strip_prefix("sha-256=")).next_back()
    else {
        return Ok(None);
    };
    let encoded = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
    let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    let digest = bytes.map(|bytes| hex(&bytes)).filter(|digest| digest.len() == DIGITS);
    digest.map(Some).ok_or(FileError::BadDigest)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let request =
            lines.iter().fold(TestRequest::default(), |request, line| request.append_header(*line));
        request.to_http_request().headers().clone()
    }

    #[test]
    fn a_condition_is_one_that_can_be_kept() {
        let told = |lines: &[(&'static str, &'static str)]| condition(&headers(lines));
        assert_eq!(told(&[]).unwrap(), PutWhen::Always);
        assert_eq!(told(&[("if-none-match", "*")]).unwrap(), PutWhen::Absent);
        let version = PutWhen::Version("v1".to_owned());
        assert_eq!(told(&[("if-match", "\"v1\"")]).unwrap(), version);
        for (line, field) in [
            (("if-none-match", "\"v1\""), "If-None-Match"),
            (("if-match", "*"), "If-Match"),
            (("if-match", "W/\"v1\""), "If-Match"),
            (("if-match", "\"v1\", \"v2\""), "If-Match"),
            (("if-match", "\"\""), "If-Match"),
        ] {
            let refused = told(&[line]);
            assert!(
                matches!(&refused, Err(FileError::BadHeader { field: told }) if *told == field),
                "{line:?}: {refused:?}"
            );
        }
        let both = told(&[("if-match", "\"v1\""), ("if-none-match", "*")]);
        assert!(matches!(both, Err(FileError::BadHeader { .. })), "{both:?}");
    }

    #[test]
    fn f1_an_announced_digest_is_read_or_refused_and_others_are_not_known() {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let told = |line: (&'static str, &'static str)| digest(&headers(&[line]));
        let good = "sha-512=:AA==:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        assert_eq!(told(("content-digest", good)).unwrap().as_deref(), Some(EMPTY));
        assert_eq!(told(("repr-digest", good)).unwrap().as_deref(), Some(EMPTY));
        assert_eq!(told(("content-digest", "sha-512=:AA==:")).unwrap(), None);
        for bad in ["sha-256=:AA==:", "sha-256=AA", "sha-256=::", "sha-256=:?:"] {
            let refused = told(("content-digest", bad));
            assert!(matches!(refused, Err(FileError::BadDigest)), "{bad}: {refused:?}");
        }
    }
}
