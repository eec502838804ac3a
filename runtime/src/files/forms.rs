//! Reads forms with files (`multipart/form-data`, RFC 7578) as they come: a part at a time, and of a part a piece at a time.
//!
//! Nothing but the head of a part and what may be the beginning of a boundary is kept. What is not a form to the letter is
//! refused: a reader that guesses is one that others can be told something else than. Deliberately not here: forms within
//! forms, and `filename*`, which RFC 7578 forbids.

use std::fmt;
use std::fmt::Display;

use actix_web::HttpRequest;
use actix_web::http::header;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::LocalBoxStream;
use futures_util::{Stream, StreamExt as _, stream};

use super::error::FileError;
use super::naming::UNKNOWN_TYPE;

/// Longest boundary (RFC 2046).
const LONGEST_BOUNDARY: usize = 70;
/// Longest head of a part.
const LONGEST_HEAD: usize = 8_192;
/// Most parts of a form.
const MOST_PARTS: usize = 1_000;

/// A form that is being read.
///
/// ```
/// use actix_web::{HttpRequest, HttpResponse, web};
/// use understudy_runtime::files::{FileError, Files, Form};
///
/// async fn upload(
///     request: HttpRequest,
///     files: Files,
///     body: web::Payload,
/// ) -> Result<HttpResponse, FileError> {
///     let mut form = Form::of(&request, body)?;
///     while let Some(part) = form.next().await? {
///         if part.field() == "avatar" {
///             files.space("avatars").put("ann", "image/png", part.content()).await?;
///         }
///     }
///     Ok(HttpResponse::NoContent().finish())
/// }
/// # let _ = web::post().to(upload);
/// ```
pub struct Form {
    body: LocalBoxStream<'static, Result<Bytes, FileError>>,
    /// What was read and not given yet.
    read: BytesMut,
    /// What stands before each part and at the end.
    delimiter: Vec<u8>,
    at: At,
    parts: usize,
}

/// Where in the form it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the content of a part, or before the first.
    Content,
    /// Right behind a delimiter.
    Delimiter,
    /// Behind the last.
    End,
}

/// One part of a form. What is not read of it is passed over.
pub struct FormPart<'a> {
    field: String,
    file_name: Option<String>,
    content_type: Option<String>,
    form: &'a mut Form,
}

impl Form {
    /// Begins to read the body of a request.
    ///
    /// # Errors
    /// [`FileError::BadForm`] when it is no form with files by its `Content-Type`.
    pub fn of<S, E>(request: &HttpRequest, body: S) -> Result<Self, FileError>
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Display + 'static,
    {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = boundary(kind).ok_or(bad("it has no Content-Type with a boundary"))?;
        let body = body.map(|bytes: Result<Bytes, E>| {
            bytes.map_err(|error| {
                tracing::debug!(%error, "a form broke off");
                FileError::BrokeOff
            })
        });
        Ok(Self {
            body: body.boxed_local(),
            // Before the first delimiter the line break may be missing.
            read: BytesMut::from(&b"\r\n"[..]),
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            at: At::Content,
            parts: 0,
        })
    }

    /// Gives the next part; `None` when there is none.
    ///
    /// # Errors
    /// [`FileError::BadForm`] and [`FileError::BrokeOff`].
    pub async fn next(&mut self) -> Result<Option<FormPart<'_>>, FileError> {
        // What is left of the part before, or stands before the first.
        while self.chunk().await?.is_some() {}
        if self.at == At::End || self.is_last().await? {
            self.at = At::End;
            return Ok(None);
        }
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(bad("it has more than 1000 parts"));
        }
        let head = self.head().await?;
        self.at = At::Content;
        let (field, file_name, content_type) = read_head(&head)?;
        Ok(Some(FormPart { field, file_name, content_type, form: self }))
    }

    /// Gives what is next of the content of a part; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        if self.at != At::Content {
            return Ok(None);
        }
        loop {
            match find(&self.read, &self.delimiter) {
                Some(0) => {
                    self.read.advance(self.delimiter.len());
                    self.at = At::Delimiter;
                    return Ok(None);
                }
                Some(at) => return Ok(Some(self.read.split_to(at).freeze())),
                None => {}
            }
            // The last bytes may be the beginning of a delimiter.
            let sure = self.read.len().saturating_sub(self.delimiter.len() - 1);
            if sure > 0 {
                return Ok(Some(self.read.split_to(sure).freeze()));
            }
            self.more().await?;
        }
    }

    /// Reads what stands behind a delimiter: two hyphens behind the last, else the end of its line.
    async fn is_last(&mut self) -> Result<bool, FileError> {
        loop {
            let blanks = self.read.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            if blanks > LONGEST_HEAD {
                return Err(bad("there is something behind a boundary"));
            }
            if self.read.len() < blanks + 2 {
                self.more().await?;
                continue;
            }
            let next = [self.read[blanks], self.read[blanks + 1]];
            let is_last = next == *b"--" && blanks == 0;
            if !is_last && next != *b"\r\n" {
                return Err(bad("there is something behind a boundary"));
            }
            // The line break stays: with it the head of a part always ends in two.
            self.read.advance(blanks);
            return Ok(is_last);
        }
    }

    /// Reads the head of a part, with the line break before it.
    async fn head(&mut self) -> Result<Bytes, FileError> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head = self.read.split_to(end).freeze();
                self.read.advance(4);
                return Ok(head);
            }
            if self.read.len() > LONGEST_HEAD {
                return Err(bad("the head of a part is too long"));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), FileError> {
        let bytes = self.body.next().await.ok_or(bad("it ends in the middle"))??;
        self.read.extend_from_slice(&bytes);
        Ok(())
    }
}

impl<'a> FormPart<'a> {
    /// The name of the field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What the file is called where it comes from; `None` for a field that is none. It may be anything: see
    /// [`safe_name`](super::safe_name).
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// The type that was said.
    #[must_use]
    pub fn content_type(&self) -> &str {
        let usual = if self.file_name.is_some() { UNKNOWN_TYPE } else { "text/plain" };
        self.content_type.as_deref().unwrap_or(usual)
    }

    /// Reads it as text of so many bytes at most.
    ///
    /// # Errors
    /// [`FileError::TooLarge`], [`FileError::BadForm`] when it is no text, [`FileError::BrokeOff`].
    pub async fn text(self, most: usize) -> Result<String, FileError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.form.chunk().await? {
            if all.len() + bytes.len() > most {
                return Err(FileError::TooLarge { most: most as u64 });
            }
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).map_err(|_| bad("a field is no text"))
    }

    /// Gives what is in it, piece by piece.
    pub fn content(self) -> impl Stream<Item = Result<Bytes, FileError>> + use<'a> {
        stream::try_unfold(self.form, |form| async move {
            let bytes = form.chunk().await?;
            Ok::<_, FileError>(bytes.map(|bytes| (bytes, form)))
        })
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").field("at", &self.at).field("parts", &self.parts).finish()
    }
}

impl fmt::Debug for FormPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormPart").field("field", &self.field).finish_non_exhaustive()
    }
}

fn bad(why: &'static str) -> FileError {
    FileError::BadForm { why }
}

/// Finds where some bytes begin. They begin with a carriage return, of which there are few.
fn find(all: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = all[from..].iter().position(|byte| *byte == b'\r') {
        if all[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn boundary(kind: &str) -> Option<String> {
    let (essence, _) = kind.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(kind, "boundary")?;
    let fits = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let good = (1..=LONGEST_BOUNDARY).contains(&boundary.len())
        && boundary.bytes().all(fits)
        && !boundary.ends_with(' ');
    good.then_some(boundary)
}

type Head = (String, Option<String>, Option<String>);

/// Reads the name of the field, that of the file and its type.
fn read_head(head: &[u8]) -> Result<Head, FileError> {
    let head = std::str::from_utf8(head).map_err(|_| bad("the head of a part is no text"))?;
    let (mut disposition, mut kind) = (None, None);
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(bad("a line of a head is none"))?;
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" => disposition = Some(value.trim()),
            "content-type" => kind = Some(value.trim().to_owned()),
            "content-transfer-encoding" if !is_as_it_is(value) => {
                return Err(bad("a part is encoded"));
            }
            _ => {}
        }
    }
    let disposition = disposition.ok_or(bad("a part has no Content-Disposition"))?;
    let essence = disposition.split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("form-data") {
        return Err(bad("a part is none of a form"));
    }
    let field = parameter(disposition, "name").ok_or(bad("a part has no name"))?;
    Ok((told(&field), parameter(disposition, "filename").map(|name| told(&name)), kind))
}

fn is_as_it_is(encoding: &str) -> bool {
    let known = ["binary", "8bit", "7bit"];
    known.iter().any(|known| encoding.trim().eq_ignore_ascii_case(known))
}

/// What browsers write in place of what would end a quoted name.
fn told(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// Finds a parameter of a header: `kind; name=value; name="value"`.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        let (name, value) = rest.trim_start_matches([' ', '\t', ';']).split_once('=')?;
        let (value, after) = read_value(value)?;
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// Reads a value, and gives what stands behind it. Backslashes are kept: some browsers send paths.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' if quoted[at + 1..].starts_with('"') => {
                value.push('"');
                characters.next();
            }
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests;
