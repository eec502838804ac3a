//! Answers with a file: the whole, ranges of it, or that the client has it already, by RFC 9110.
//!
//! A file is what a stranger wrote. So browsers are told not to guess its type, to show nothing but a few kinds of pictures,
//! and to let it do nothing where it is opened.
//!
//! The head of an answer is sent when the first piece of the content is there: what is lost, damaged or out of reach is a
//! problem with a status of its own. What fails later breaks the connection off, before all that was announced was sent.

use std::ops::Range;

use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::error::FileError;
use super::info::FileInfo;
use super::kinds::is_shown;
use super::naming::UNKNOWN_TYPE;
use super::ranges::{Asked, asked};
use super::stored::StoredFile;
use crate::http::problem::Problem;

/// What a file may do that is opened as a page: nothing.
const POLICY: &str = "default-src 'none'; sandbox";

/// What a client does with a file that it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disposition {
    /// It shows a picture, and saves everything else.
    #[default]
    ByType,
    /// It saves the file, also a picture.
    Save,
}

/// What of a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// At least one.
    Parts(Vec<Range<u64>>),
    /// The client has it.
    Nothing,
    /// The client wants another one.
    Other,
    /// There is nothing in this range.
    Outside,
}

impl StoredFile {
    /// Answers a request with it, or with the ranges of it that are wanted: one as it is, several as `multipart/byteranges`,
    /// more than eight not at all, but with all of the file. `If-Match`, `If-None-Match` and `If-Range` are looked at.
    ///
    /// The first piece is read before there is an answer. What goes wrong afterwards ends the answer, and its connection, before
    /// its announced length, so that no client takes what came for the whole. `HEAD`, and who has the file already, are answered
    /// without reading.
    ///
    /// # Errors
    /// [`FileError::Damaged`] when it is not what was written, or lost; else when its store does not give it now. A file that was
    /// removed since it was [found](super::Space::get) is no error, but answered with 404 (`unknown_file`).
    pub async fn response(self, request: &HttpRequest) -> Result<HttpResponse, FileError> {
        self.response_as(request, Disposition::ByType).await
    }

    /// The same, for a client that is to do something else with it.
    ///
    /// # Errors
    /// As [`response`](Self::response).
    pub async fn response_as(
        self,
        request: &HttpRequest,
        disposition: Disposition,
    ) -> Result<HttpResponse, FileError> {
        match self.answer(request, disposition).await {
            Ok(answer) => Ok(answer),
            Err(FileError::Gone) => Ok(not_there()),
            Err(error) => Err(error),
        }
    }

    async fn answer(
        self,
        request: &HttpRequest,
        disposition: Disposition,
    ) -> Result<HttpResponse, FileError> {
        let info = self.info().clone();
        let sent = Sent { info: &info, disposition };
        Ok(match wanted(request.method(), request.headers(), &info) {
            Wanted::Whole if request.method() == Method::HEAD => {
                let mut answer = sent.begin(StatusCode::OK);
                answer.no_chunking(info.bytes);
                answer.streaming(self.part(0..0))
            }
            Wanted::Whole => {
                let content = begun(self.stream(), 1).await?;
                let mut answer = sent.begin(StatusCode::OK);
                answer.no_chunking(info.bytes);
                answer.streaming(content)
            }
            Wanted::Parts(parts) => match parts.as_slice() {
                [part] => sent.one(self, part.clone()).await?,
                _ => sent.several(self, parts).await?,
            },
            Wanted::Nothing => sent.begin(StatusCode::NOT_MODIFIED).finish(),
            Wanted::Other => {
                let title = "The file is another one than that of If-Match";
                Problem::new(StatusCode::PRECONDITION_FAILED, "file_changed", title).response()
            }
            Wanted::Outside => {
                let title = "The file has nothing in the range that is wanted";
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let mut answer = Problem::new(status, "range_not_satisfiable", title).response();
                let told = format!("bytes */{}", info.bytes);
                if let Ok(value) = header::HeaderValue::from_str(&told) {
                    answer.headers_mut().insert(header::CONTENT_RANGE, value);
                }
                answer
            }
        })
    }
}

/// Who may ask for a file may know that there is none.
pub(super) fn not_there() -> HttpResponse {
    Problem::new(StatusCode::NOT_FOUND, "unknown_file", "There is no file of this name").response()
}

/// Reads so many items of a content, if it has them, before anything is told of it; the rest is read as it is sent.
async fn begun<S>(
    content: S,
    items: usize,
) -> Result<impl Stream<Item = Result<Bytes, FileError>> + 'static, FileError>
where
    S: Stream<Item = Result<Bytes, FileError>> + 'static,
{
    let mut content = Box::pin(content.fuse());
    let mut read: Vec<Result<Bytes, FileError>> = Vec::with_capacity(items);
    while read.len() < items {
        let Some(bytes) = content.next().await else { break };
        read.push(Ok(bytes?));
    }
    Ok(stream::iter(read).chain(content))
}

/// A file, as it is sent.
#[derive(Clone, Copy)]
struct Sent<'a> {
    info: &'a FileInfo,
    disposition: Disposition,
}

impl Sent<'_> {
    /// Begins an answer with what is the same whether all of the file is sent or not.
    fn begin(self, status: StatusCode) -> HttpResponseBuilder {
        let is_inline = match self.disposition {
            Disposition::ByType => is_shown(&self.info.content_type),
            Disposition::Save => false,
        };
        let mut answer = HttpResponse::build(status);
        answer
            .insert_header((header::CONTENT_TYPE, self.content_type()))
            .insert_header((header::CONTENT_DISPOSITION, disposition(is_inline, &self.info.name)))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::CACHE_CONTROL, "private, no-cache"))
            .insert_header((header::ACCEPT_RANGES, "bytes"))
            .insert_header((header::ETAG, self.info.etag()));
        answer
    }

    fn content_type(self) -> String {
        let kept = self.info.content_type.as_str();
        if is_shown(kept) { kept.to_owned() } else { UNKNOWN_TYPE.to_owned() }
    }

    fn content_range(self, part: &Range<u64>) -> String {
        format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), self.info.bytes)
    }

    /// Answers with one part, as it is.
    async fn one(self, file: StoredFile, part: Range<u64>) -> Result<HttpResponse, FileError> {
        let content = begun(file.part(part.clone()), 1).await?;
        let mut answer = self.begin(StatusCode::PARTIAL_CONTENT);
        answer.insert_header((header::CONTENT_RANGE, self.content_range(&part)));
        answer.no_chunking(part.end - part.start);
        Ok(answer.streaming(content))
    }

    /// Answers with several parts, each behind a few lines that say which one it is (RFC 9110, section 14.6).
    async fn several(
        self,
        file: StoredFile,
        parts: Vec<Range<u64>>,
    ) -> Result<HttpResponse, FileError> {
        // Drawn, so that nothing in the file can be taken for it.
        let boundary = format!("{:032x}", rand::random::<u128>());
        let content_type = self.content_type();
        let head = |part: Range<u64>| -> (Bytes, Range<u64>) {
            let range = self.content_range(&part);
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n"
            );
            (Bytes::from(head), part)
        };
        let parts: Vec<(Bytes, Range<u64>)> = parts.into_iter().map(head).collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let lengths = parts.iter().map(|(head, part)| head.len() as u64 + (part.end - part.start));
        let length = lengths.sum::<u64>() + end.len() as u64;
        // The lines before the first part, and its first piece.
        let content = begun(file.parts(parts, end), 2).await?;
        let mut answer = self.begin(StatusCode::PARTIAL_CONTENT);
        let kind = format!("multipart/byteranges; boundary={boundary}");
        answer.insert_header((header::CONTENT_TYPE, kind));
        answer.no_chunking(length);
        Ok(answer.streaming(content))
    }
}

/// Names the file by RFC 6266: letters that every client understands, and all of the name for those that know how.
fn disposition(is_shown: bool, name: &str) -> String {
    let kind = if is_shown { "inline" } else { "attachment" };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let simple: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut full = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            full.push(char::from(byte));
        } else {
            full.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{kind}; filename=\"{simple}\"; filename*=UTF-8''{full}")
}

/// Looks at the conditions in the order of RFC 9110, section 13.2.2.
fn wanted(method: &Method, headers: &HeaderMap, info: &FileInfo) -> Wanted {
    let etag = info.etag();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // Lists that come in several lines are one list (section 5.3). What is no text is no tag of ours, and a condition all the same.
    let list = |name: header::HeaderName| {
        let lines: Vec<&str> = headers.get_all(name).map(|it| it.to_str().unwrap_or("?")).collect();
        (!lines.is_empty()).then(|| lines.join(","))
    };
    if let Some(list) = list(header::IF_MATCH)
        && !has(&list, &etag)
    {
        return Wanted::Other;
    }
    if let Some(list) = list(header::IF_NONE_MATCH)
        && has(&list.replace("W/", ""), &etag)
    {
        return Wanted::Nothing;
    }
    // It means something for GET only (section 14.2), and only once.
    if method != Method::GET || headers.get_all(header::RANGE).count() > 1 {
        return Wanted::Whole;
    }
    let Some(range) = text(header::RANGE) else { return Wanted::Whole };
    let known = headers.get(header::IF_RANGE).map(|known| known.to_str().unwrap_or("?"));
    if known.is_some_and(|known| known.trim() != etag) {
        return Wanted::Whole;
    }
    match asked(range, info.bytes) {
        Asked::Ignored => Wanted::Whole,
        Asked::Outside => Wanted::Outside,
        Asked::Parts(parts) => Wanted::Parts(parts),
    }
}

fn has(list: &str, etag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|known| known.trim() == etag)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn info() -> FileInfo {
        FileInfo {
            space: "s".to_owned(),
            name: "n".to_owned(),
            content_type: "image/png".to_owned(),
            bytes: 10,
            sha256: String::new(),
            version: "v1".to_owned(),
            created_ms: 0,
        }
    }

    fn wanted_by(method: &Method, headers: &[(HeaderName, &'static str)]) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        wanted(method, &map, &info())
    }

    fn part(range: Range<u64>) -> Wanted {
        Wanted::Parts(vec![range])
    }

    #[test]
    fn f1_a_range_is_looked_at_once_and_for_get_only() {
        let range = || (header::RANGE, "bytes=0-3");
        let get = |headers: &[(HeaderName, &'static str)]| wanted_by(&Method::GET, headers);
        assert_eq!(get(&[range()]), part(0..4));
        assert_eq!(get(&[(header::RANGE, "bytes=10-")]), Wanted::Outside);
        assert_eq!(get(&[(header::RANGE, "bytes=3-2")]), Wanted::Whole);
        assert_eq!(get(&[range(), range()]), Wanted::Whole);
        assert_eq!(wanted_by(&Method::HEAD, &[range()]), Wanted::Whole);
        let several = get(&[(header::RANGE, "bytes=0-1,3-4")]);
        assert_eq!(several, Wanted::Parts(vec![0..2, 3..5]));
    }

    #[test]
    fn f1_conditions_are_looked_at_in_their_order() {
        let same = "\"v1\"";
        for (headers, expected) in [
            (vec![(header::IF_NONE_MATCH, "\"v0\", W/\"v1\"")], Wanted::Nothing),
            (vec![(header::IF_NONE_MATCH, "*")], Wanted::Nothing),
            (
                vec![(header::IF_NONE_MATCH, "\"v0\""), (header::IF_NONE_MATCH, same)],
                Wanted::Nothing,
            ),
            (vec![(header::IF_NONE_MATCH, "\"v0\"")], Wanted::Whole),
            (vec![(header::IF_MATCH, "\"v0\""), (header::IF_NONE_MATCH, same)], Wanted::Other),
            (vec![(header::IF_MATCH, "W/\"v1\"")], Wanted::Other),
            (vec![(header::IF_MATCH, same), (header::RANGE, "bytes=0-0")], part(0..1)),
            (vec![(header::IF_RANGE, same), (header::RANGE, "bytes=0-0")], part(0..1)),
            (vec![(header::IF_RANGE, "\"v0\""), (header::RANGE, "bytes=0-0")], Wanted::Whole),
        ] {
            assert_eq!(wanted_by(&Method::GET, &headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn f1_a_condition_that_is_no_text_is_not_met() {
        let odd = HeaderValue::from_bytes(b"\"v1\xff\"").unwrap();
        let with = |name: HeaderName| {
            let mut map = HeaderMap::new();
            map.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
            map.insert(name, odd.clone());
            wanted(&Method::GET, &map, &info())
        };
        assert_eq!(with(header::IF_MATCH), Wanted::Other);
        assert_eq!(with(header::IF_RANGE), Wanted::Whole);
        assert_eq!(with(header::IF_NONE_MATCH), part(0..1));
    }

    #[test]
    fn x5_only_pictures_are_shown_and_a_name_ends_where_it_ends() {
        let told = disposition(false, "a\";b=\"ü.html");
        let simple = "attachment; filename=\"a__b___.html\"";
        assert_eq!(told, format!("{simple}; filename*=UTF-8''a%22%3Bb%3D%22%C3%BC.html"));
        for (kind, shown) in [("image/png", true), ("image/svg+xml", false), ("text/html", false)] {
            let info = FileInfo { content_type: kind.to_owned(), ..info() };
            let sent = Sent { info: &info, disposition: Disposition::ByType };
            let answer = sent.begin(StatusCode::OK).finish();
            let header = |name: HeaderName| answer.headers().get(name).unwrap().to_str().unwrap();
            assert_eq!(header(header::CONTENT_DISPOSITION).starts_with("inline"), shown, "{kind}");
            assert_eq!(header(header::CONTENT_TYPE) == kind, shown, "{kind}");
            assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert!(header(header::CONTENT_SECURITY_POLICY).contains("sandbox"));
            let saved = Sent { disposition: Disposition::Save, ..sent };
            let answer = saved.begin(StatusCode::OK).finish();
            let told = answer.headers().get(header::CONTENT_DISPOSITION).unwrap();
            assert!(told.to_str().unwrap().starts_with("attachment"), "{kind}");
        }
    }
}
