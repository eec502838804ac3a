//! Answers with a file: the whole, a range, or that the client has it already, by RFC 9110.
//!
//! A file is what a stranger wrote. So browsers are told not to guess its type, to show nothing but a few kinds of pictures,
//! and to let it do nothing where it is opened.

use std::ops::Range;

use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use super::info::FileInfo;
use super::naming::UNKNOWN_TYPE;
use super::stored::StoredFile;
use crate::http::problem::Problem;

/// What a browser may show by itself; everything else is saved.
const SHOWN: [&str; 5] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
/// What a file may do that is opened as a page: nothing.
const POLICY: &str = "default-src 'none'; sandbox";

/// What of a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    /// The client has it.
    Nothing,
    /// The client wants another one.
    Other,
    /// There is nothing in this range.
    Outside,
}

impl StoredFile {
    /// Answers a request with it, or with the range of it that is wanted (one; when several are, with all of it). `If-Match`,
    /// `If-None-Match` and `If-Range` are looked at.
    #[must_use]
    pub fn response(self, request: &HttpRequest) -> HttpResponse {
        let info = self.info().clone();
        match wanted(request.headers(), &info) {
            Wanted::Whole => {
                let mut answer = begin(StatusCode::OK, &info);
                answer.no_chunking(info.bytes);
                if request.method() == Method::HEAD {
                    return answer.streaming(self.part(0..0));
                }
                answer.streaming(self.stream())
            }
            Wanted::Part(range) => {
                let mut answer = begin(StatusCode::PARTIAL_CONTENT, &info);
                let told = format!("bytes {}-{}/{}", range.start, range.end - 1, info.bytes);
                answer.insert_header((header::CONTENT_RANGE, told));
                answer.no_chunking(range.end - range.start);
                answer.streaming(self.part(range))
            }
            Wanted::Nothing => begin(StatusCode::NOT_MODIFIED, &info).finish(),
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
        }
    }
}

/// Begins an answer with what is the same whether all of the file is sent or not.
fn begin(status: StatusCode, info: &FileInfo) -> HttpResponseBuilder {
    let is_shown = SHOWN.contains(&info.content_type.as_str());
    let content_type = if is_shown { info.content_type.as_str() } else { UNKNOWN_TYPE };
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((header::CONTENT_TYPE, content_type.to_owned()))
        .insert_header((header::CONTENT_DISPOSITION, disposition(is_shown, &info.name)))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::ETAG, info.etag()));
    answer
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
fn wanted(headers: &HeaderMap, info: &FileInfo) -> Wanted {
    let etag = info.etag();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(list) = text(header::IF_MATCH)
        && !has(list, &etag)
    {
        return Wanted::Other;
    }
    if let Some(list) = text(header::IF_NONE_MATCH)
        && has(&list.replace("W/", ""), &etag)
    {
        return Wanted::Nothing;
    }
    let Some(range) = text(header::RANGE) else { return Wanted::Whole };
    if text(header::IF_RANGE).is_some_and(|known| known.trim() != etag) {
        return Wanted::Whole;
    }
    part(range, info.bytes)
}

fn has(list: &str, etag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|known| known.trim() == etag)
}

/// Reads one range of bytes; what is none, and several at once, count as no wish.
fn part(range: &str, bytes: u64) -> Wanted {
    let Some(range) = range.trim().strip_prefix("bytes=") else { return Wanted::Whole };
    let Some((first, last)) = range.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| -> Option<u64> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than can be counted is behind the end of every file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let wanted = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) if last.trim().is_empty() => first..bytes,
        (None, Some(most)) if first.trim().is_empty() => bytes.saturating_sub(most)..bytes,
        (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) | (None, None) => {
            return Wanted::Whole;
        }
    };
    if wanted.is_empty() { Wanted::Outside } else { Wanted::Part(wanted) }
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

    fn asked(headers: &[(HeaderName, &'static str)]) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.clone(), HeaderValue::from_static(value));
        }
        wanted(&map, &info())
    }

    #[test]
    fn f1_a_range_is_what_rfc_9110_says() {
        for (range, expected) in [
            ("bytes=0-3", Wanted::Part(0..4)),
            ("bytes=3-", Wanted::Part(3..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes=9-99999999999999999999", Wanted::Part(9..10)),
            ("bytes=10-", Wanted::Outside),
            ("bytes=99999999999999999999-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(asked(&[(header::RANGE, range)]), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Wanted::Outside);
    }

    #[test]
    fn f1_conditions_are_looked_at_in_their_order() {
        let same = "\"v1\"";
        for (headers, expected) in [
            (vec![(header::IF_NONE_MATCH, "\"v0\", W/\"v1\"")], Wanted::Nothing),
            (vec![(header::IF_NONE_MATCH, "*")], Wanted::Nothing),
            (vec![(header::IF_NONE_MATCH, "\"v0\"")], Wanted::Whole),
            (vec![(header::IF_MATCH, "\"v0\""), (header::IF_NONE_MATCH, same)], Wanted::Other),
            (vec![(header::IF_MATCH, "W/\"v1\"")], Wanted::Other),
            (vec![(header::IF_MATCH, same), (header::RANGE, "bytes=0-0")], Wanted::Part(0..1)),
            (vec![(header::IF_RANGE, same), (header::RANGE, "bytes=0-0")], Wanted::Part(0..1)),
            (vec![(header::IF_RANGE, "\"v0\""), (header::RANGE, "bytes=0-0")], Wanted::Whole),
        ] {
            assert_eq!(asked(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn x5_only_pictures_are_shown_and_a_name_ends_where_it_ends() {
        let told = disposition(false, "a\";b=\"ü.html");
        let simple = "attachment; filename=\"a__b___.html\"";
        assert_eq!(told, format!("{simple}; filename*=UTF-8''a%22%3Bb%3D%22%C3%BC.html"));
        for (kind, shown) in [("image/png", true), ("image/svg+xml", false), ("text/html", false)] {
            let answer =
                begin(StatusCode::OK, &FileInfo { content_type: kind.to_owned(), ..info() })
                    .finish();
            let header = |name: HeaderName| answer.headers().get(name).unwrap().to_str().unwrap();
            assert_eq!(header(header::CONTENT_DISPOSITION).starts_with("inline"), shown, "{kind}");
            assert_eq!(header(header::CONTENT_TYPE) == kind, shown, "{kind}");
            assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert!(header(header::CONTENT_SECURITY_POLICY).contains("sandbox"));
        }
    }
}
