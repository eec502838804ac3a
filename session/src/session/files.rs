//! Temporary files of a session: small ones, for what a user uploads in one request and needs in another, at whichever node.

use std::fmt;
use std::fmt::Display;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tracing::Instrument as _;
use understudy_runtime::files::type_of;

use super::Session;
use crate::error::SessionError;
use crate::kin::{Added, Begun, CHUNK, FileRow, Folder, Kin, MAX_FILES};
use crate::record::Locator;

/// Longest name of a file.
const LONGEST_NAME: usize = 255;

/// The temporary files of a session. They lie in the database, where every node finds them, and end with the session, however
/// that ends: out of reach at once on every node, and removed right after that, or by the leader when the node dies in
/// between.
///
/// A file has up to `UNDERSTUDY_SESSION_MAX_FILE_BYTES`, all files of a session together up to
/// `UNDERSTUDY_SESSION_MAX_FILES_BYTES`, and there are up to 100. Files are written and read in pieces; none is in memory as a
/// whole. What a user has put there is not shown to another user who logs in in the same session.
///
/// ```
/// use actix_web::{HttpResponse, Responder, web};
/// use understudy_session::{Session, SessionError};
///
/// async fn upload(session: Session, content: web::Payload) -> Result<impl Responder, SessionError> {
///     let bytes = session.temp_dir().put("scan.pdf", "application/pdf", content).await?;
///     Ok(HttpResponse::Ok().body(format!("{bytes} bytes")))
/// }
///
/// async fn download(session: Session) -> Result<HttpResponse, SessionError> {
///     Ok(match session.temp_dir().get("scan.pdf").await? {
///         Some(file) => file.response(),
///         None => HttpResponse::NotFound().finish(),
///     })
/// }
/// # let _ = (web::put().to(upload), web::get().to(download));
/// ```
#[derive(Clone, Debug)]
pub struct TempDir(Session);

/// A temporary file, found and not read yet.
pub struct TempFile {
    info: TempFileInfo,
    kin: Kin,
    session: Locator,
    id: String,
    chunks: u64,
}

/// What is known of a temporary file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TempFileInfo {
    /// Its name within the session.
    pub name: String,
    /// Its type, as whoever put it there said.
    pub content_type: String,
    /// How long it is.
    pub bytes: u64,
    /// When it was begun, ms since 1970 on the database's clock.
    pub created_ms: u64,
}

impl Session {
    /// Gives the temporary files of this session; nothing is looked up before the first call.
    #[must_use]
    pub fn temp_dir(&self) -> TempDir {
        TempDir(self.clone())
    }
}

impl TempDir {
    /// Writes a file, and gives how many bytes it has. One of that name is replaced when all of the new one is there; before
    /// that, and when anything goes wrong, it stays as it is. If the node dies in the middle, what was written is removed
    /// within about an hour.
    ///
    /// # Errors
    /// [`SessionError::NoSession`] when there is no session yet; [`SessionError::BadFileName`];
    /// [`SessionError::FileTooLarge`], [`SessionError::FilesTooLarge`] and [`SessionError::TooManyFiles`] at the limits;
    /// [`SessionError::UploadBrokeOff`] when `content` does; [`SessionError::Ended`] when the session ended meanwhile; else
    /// when it cannot be stored now.
    pub async fn put<S, E>(
        &self,
        name: &str,
        content_type: &str,
        content: S,
    ) -> Result<u64, SessionError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let name = file_name(name)?;
        let folder = self.folder().await?.ok_or(SessionError::NoSession)?;
        let mut upload = Upload::begin(self.kin()?, folder, name, type_of(content_type)).await?;
        match upload.fill(content).await {
            Ok(()) => upload.publish().await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Finds a file; `None` if it or the session is not there.
    ///
    /// # Errors
    /// When it cannot be looked for now.
    pub async fn get(&self, name: &str) -> Result<Option<TempFile>, SessionError> {
        let Some(folder) = self.folder().await? else { return Ok(None) };
        let kin = self.kin()?;
        let Some(row) = kin.find_file(&folder, name).await? else { return Ok(None) };
        let FileRow { id, name, kind: content_type, bytes, chunks, created_ms } = row;
        let info = TempFileInfo { name, content_type, bytes, created_ms };
        Ok(Some(TempFile { info, kin, session: folder.session, id, chunks }))
    }

    /// Lists the files by name; none if there is no session.
    ///
    /// # Errors
    /// When they cannot be listed now.
    pub async fn list(&self) -> Result<Vec<TempFileInfo>, SessionError> {
        let Some(folder) = self.folder().await? else { return Ok(Vec::new()) };
        let rows = self.kin()?.list_files(&folder).await?.into_iter();
        let info = |row: FileRow| TempFileInfo {
            name: row.name,
            content_type: row.kind,
            bytes: row.bytes,
            created_ms: row.created_ms,
        };
        Ok(rows.map(info).collect())
    }

    /// Removes a file; says whether it was there. Whoever is just reading it is told that it is gone.
    ///
    /// # Errors
    /// When it cannot be removed now.
    pub async fn delete(&self, name: &str) -> Result<bool, SessionError> {
        let Some(folder) = self.folder().await? else { return Ok(false) };
        let kin = self.kin()?;
        let Some(row) = kin.find_file(&folder, name).await? else { return Ok(false) };
        Ok(kin.drop_file(folder.session, &row.id).await?)
    }

    /// Says where the files of this session and its user are; `None` without a session, which is looked at each time.
    async fn folder(&self) -> Result<Option<Folder>, SessionError> {
        let Some(view) = self.0.view().await? else { return Ok(None) };
        let Some(presented) = self.0.presented() else { return Ok(None) };
        let scope = view.record.scope().to_owned();
        Ok(Some(Folder { session: presented.locator, scope }))
    }

    fn kin(&self) -> Result<Kin, SessionError> {
        self.0.0.handle.0.kin.clone().ok_or(SessionError::NotInstalled)
    }
}

impl TempFile {
    /// Tells what is known of it.
    #[must_use]
    pub fn info(&self) -> &TempFileInfo {
        &self.info
    }

    /// Reads it piece by piece, one query for each. Ends with [`SessionError::Ended`] when the file is removed meanwhile.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, SessionError>> + 'static {
        stream::try_unfold((self, 0_u64), |(file, number): (Self, u64)| async move {
            if number == file.chunks {
                return Ok::<_, SessionError>(None);
            }
            let bytes = file.kin.read_chunk(file.session, &file.id, number).await?;
            let bytes = bytes.ok_or(SessionError::Ended)?;
            Ok(Some((Bytes::from(bytes), (file, number + 1))))
        })
    }

    /// Answers with it: as an attachment of the type that whoever put it there said, which browsers neither guess nor show.
    #[must_use]
    pub fn response(self) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(self.info.content_type.as_str())
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::CONTENT_DISPOSITION, "attachment"))
            .insert_header((header::CACHE_CONTROL, "private, no-store"))
            .no_chunking(self.info.bytes)
            .streaming(self.stream())
    }
}

impl fmt::Debug for TempFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TempFile").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A file that is being written. Dropped before it is published, what was written of it is removed.
struct Upload {
    kin: Kin,
    folder: Folder,
    id: String,
    name: String,
    chunks: u64,
    bytes: u64,
    /// Nothing is left to be removed.
    settled: bool,
}

impl Upload {
    async fn begin(
        kin: Kin,
        folder: Folder,
        name: String,
        kind: String,
    ) -> Result<Self, SessionError> {
        let id = format!("{:032x}", rand::random::<u128>());
        let begun = kin.begin_file(&folder, &id, &name, &kind).await?;
        match begun {
            Begun::In => {}
            Begun::TooMany => return Err(SessionError::TooManyFiles { most: MAX_FILES }),
            Begun::Gone => return Err(SessionError::Ended),
        }
        Ok(Self { kin, folder, id, name, chunks: 0, bytes: 0, settled: false })
    }

    /// Writes all of `content`, holding one piece of it in memory.
    async fn fill<S, E>(&mut self, content: S) -> Result<(), SessionError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let mut content = std::pin::pin!(content);
        let mut piece = BytesMut::with_capacity(CHUNK);
        while let Some(bytes) = content.next().await {
            let mut bytes = bytes.map_err(|error| {
                tracing::debug!(%error, "the content of a temporary file broke off");
                SessionError::UploadBrokeOff
            })?;
            while !bytes.is_empty() {
                let room = CHUNK - piece.len();
                piece.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
                if piece.len() == CHUNK {
                    self.add(&piece).await?;
                    piece.clear();
                }
            }
        }
        if !piece.is_empty() {
            self.add(&piece).await?;
        }
        Ok(())
    }

    async fn add(&mut self, piece: &[u8]) -> Result<(), SessionError> {
        let limits = self.kin.limits();
        self.bytes += piece.len() as u64;
        if self.bytes > limits.file_bytes {
            return Err(SessionError::FileTooLarge { most: limits.file_bytes });
        }
        let added = self.kin.add_chunk(self.folder.session, &self.id, self.chunks, piece).await?;
        match added {
            Added::In => self.chunks += 1,
            Added::Full => return Err(SessionError::FilesTooLarge { most: limits.session_bytes }),
            Added::Gone => return Err(SessionError::Ended),
        }
        Ok(())
    }

    async fn publish(mut self) -> Result<u64, SessionError> {
        self.settled = self.kin.publish_file(&self.folder, &self.id, &self.name).await?;
        if self.settled { Ok(self.bytes) } else { Err(SessionError::Ended) }
    }

    /// Removes what was written, so that there is room again when whoever asked is told.
    async fn abort(mut self) {
        match self.kin.drop_upload(self.folder.session, &self.id).await {
            Ok(_) => self.settled = true,
            Err(error) => tracing::debug!(%error, "what was written of a file is not removed yet"),
        }
    }
}

impl Drop for Upload {
    /// Also when the client went away in the middle. What this cannot do is done by the sweep.
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (kin, session, id) = (self.kin.clone(), self.folder.session, self.id.clone());
        let work = async move {
            if let Err(error) = kin.drop_upload(session, &id).await {
                tracing::debug!(%error, "what was written of a temporary file is left to the sweep");
            }
        };
        runtime.spawn(work.in_current_span());
    }
}

/// The name of a file names nothing outside of the session, and nothing invisible.
fn file_name(name: &str) -> Result<String, SessionError> {
    let is_odd = |character: char| character.is_control() || matches!(character, '/' | '\\');
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(is_odd) {
        return Err(SessionError::BadFileName);
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s16_a_file_has_a_name_that_leads_nowhere_else() {
        for good in ["a", "scan 1.pdf", "Grüße.txt", &"x".repeat(255), ".."] {
            assert_eq!(file_name(good).unwrap(), good);
        }
        for bad in ["", "a/b", "..\\b", "a\nb", "\u{85}", &"x".repeat(256)] {
            assert!(matches!(file_name(bad), Err(SessionError::BadFileName)), "{bad:?}");
        }
    }
}
