//! What a file is, by what was said of it and by how it begins; and what of that a browser may show.
//!
//! Who writes a file says its type, and may lie. So a picture is one only if it begins like one of that kind and has nothing
//! near its beginning that a browser could take for a page. Everything else is kept with the type that was said and sent as
//! something to be saved; its type harms nobody there.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::error::FileError;
use super::naming::{UNKNOWN_TYPE, type_of};

/// What a browser may show by itself; everything else is saved.
const SHOWN: [&str; 5] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
/// How many bytes of a file are looked at.
const HEAD: usize = 1024;
/// What a page or a drawing with scripts begins with, or has near its beginning.
const MARKUP: [&[u8]; 6] = [b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<svg"];

/// Which files a space takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kinds {
    /// Files of every type.
    #[default]
    Any,
    /// Pictures that browsers show: PNG, JPEG, GIF, WebP and AVIF.
    Pictures,
}

impl Kinds {
    /// Gives the type that a file is kept with, by the one that was said and by how it begins.
    pub(super) fn admit(self, said: &str, head: &[u8]) -> Result<String, FileError> {
        let essence = essence(said);
        let is_picture = is_shown(&essence);
        let is_so = picture(head) == Some(essence.as_str()) && !has_markup(head);
        match (self, is_picture, is_so) {
            (Self::Any | Self::Pictures, true, true) => Ok(essence),
            (Self::Any, true, false) => Ok(UNKNOWN_TYPE.to_owned()),
            (Self::Any, false, _) => Ok(type_of(said)),
            (Self::Pictures, _, _) => Err(FileError::WrongKind),
        }
    }
}

/// Says whether a browser may show a file of this type by itself.
pub(super) fn is_shown(content_type: &str) -> bool {
    SHOWN.contains(&content_type)
}

/// A type without its parameters, as it is compared.
fn essence(said: &str) -> String {
    said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Says which picture begins like this.
fn picture(head: &[u8]) -> Option<&'static str> {
    let brand = head.get(8..12);
    match head {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', ..] if brand == Some(&b"WEBP"[..]) => Some("image/webp"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..]
            if brand == Some(&b"avif"[..]) || brand == Some(&b"avis"[..]) =>
        {
            Some("image/avif")
        }
        _ => None,
    }
}

fn has_markup(head: &[u8]) -> bool {
    let head = head.to_ascii_lowercase();
    MARKUP.iter().any(|mark| head.windows(mark.len()).any(|some| some == *mark))
}

/// How some content begins, and what was read of it for that.
pub(super) struct Peeked<E> {
    /// Its first bytes, fewer when it has no more.
    pub(super) head: Vec<u8>,
    /// All that was read: it comes before the rest.
    pub(super) read: Vec<Result<Bytes, E>>,
}

/// Reads so much of some content that it is seen what it is. An error of it is kept for whoever reads all of it.
pub(super) async fn peek<S, E>(mut content: Pin<&mut S>) -> Peeked<E>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let mut peeked = Peeked { head: Vec::with_capacity(HEAD), read: Vec::new() };
    while peeked.head.len() < HEAD {
        let Some(next) = content.next().await else { break };
        let is_end = next.is_err();
        if let Ok(bytes) = &next {
            let room = HEAD - peeked.head.len();
            peeked.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        peeked.read.push(next);
        if is_end {
            break;
        }
    }
    peeked
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    #[test]
    fn row_16_a_picture_is_one_only_if_it_begins_like_one() {
        let webp = b"RIFF\x10\0\0\0WEBPVP8 ";
        let avif = b"\0\0\0\x1cftypavif\0\0\0\0";
        let cases: [(&str, &[u8], &str); 14] = [
            ("image/png", PNG, "image/png"),
            ("Image/PNG; charset=x", PNG, "image/png"),
            ("image/jpeg", b"\xff\xd8\xff\xe0", "image/jpeg"),
            ("image/gif", b"GIF89a..", "image/gif"),
            ("image/webp", webp, "image/webp"),
            ("image/avif", avif, "image/avif"),
            ("image/png", b"<html><script>alert(1)</script>", UNKNOWN_TYPE),
            ("image/png", b"<svg onload=alert(1)>", UNKNOWN_TYPE),
            ("image/gif", b"GIF89a/*<ScRiPt>*/", UNKNOWN_TYPE),
            ("image/jpeg", PNG, UNKNOWN_TYPE),
            ("image/png", b"", UNKNOWN_TYPE),
            // What is saved by whoever asks for it may be called anything.
            ("text/html", b"<html>", "text/html"),
            ("image/svg+xml", b"<svg/>", "image/svg+xml"),
            ("no type", b"", UNKNOWN_TYPE),
        ];
        for (said, head, kept) in cases {
            assert_eq!(Kinds::Any.admit(said, head).unwrap(), kept, "{said} {head:?}");
            let told = Kinds::Pictures.admit(said, head);
            match is_shown(kept) {
                true => assert_eq!(told.unwrap(), kept, "{said}"),
                false => assert!(matches!(told, Err(FileError::WrongKind)), "{said} {head:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_peeked_at_is_not_lost() {
        let bits: Vec<Result<Bytes, String>> =
            (0..300_u16).map(|_| Ok(Bytes::from_static(b"12345"))).collect();
        let mut content = std::pin::pin!(stream::iter(bits).fuse());
        let peeked = peek(content.as_mut()).await;
        assert_eq!((peeked.head.len(), &peeked.head[..7]), (HEAD, &b"1234512"[..]));
        let rest = content.count().await;
        assert_eq!(peeked.read.len() + rest, 300);
        let broken: Vec<Result<Bytes, String>> =
            vec![Ok(Bytes::from_static(b"1")), Err("cut".to_owned())];
        let mut content = std::pin::pin!(stream::iter(broken).fuse());
        let peeked = peek(content.as_mut()).await;
        assert_eq!((peeked.head, peeked.read.len()), (b"1".to_vec(), 2));
    }
}
