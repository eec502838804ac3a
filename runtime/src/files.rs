//! Files that every node sees: what is known of them in the database, their contents there too, in a folder that all nodes
//! share, or in a bucket.
//!
//! A file is in a *space*, a name under which files are kept together and counted: a user, a tenant, what they are for. It is
//! written in pieces under no name, and gets its name when all of it is there, in one transaction; so every node sees all of
//! it or the one before. See [`rows`] for what a crash leaves behind, and [`sweep`] for who tidies up;
//! [`owners`] says who uses a file, [`orphans`] removes what nobody does, and [`shared`] keeps equal contents once.
//!
//! No actor owns a file: what must be decided at one place is decided by the database, in the row of its space. Deliberately
//! not here: folders within spaces, who may read what (the application knows its users), contents that change in place.

mod admin;
mod bounds;
#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
mod contents;
mod database;
mod encryption;
mod error;
mod folder;
mod forms;
mod held;
mod info;
mod judging;
mod kinds;
mod linked;
mod links;
#[cfg(any(test, feature = "test-support"))]
mod memory;
mod naming;
mod near;
mod once;
mod operations;
mod orphans;
mod owners;
mod points;
mod ranges;
mod rewrapping;
mod rows;
mod rules;
mod s3;
mod saving;
mod schema;
mod segments;
mod serve;
mod service;
#[cfg(test)]
mod serving_tests;
mod shared;
mod stored;
mod sweep;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;
mod verdicts;
mod verify;

use std::fmt;
use std::fmt::Display;
use std::future::{Ready, ready};
use std::sync::{Arc, OnceLock};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use bytes::Bytes;
use futures_util::Stream;

use self::bounds::Bounds;
use self::contents::Stores;
use self::encryption::FileKeys;
use self::judging::Judge;
use self::links::Signer;
use self::rows::{Deleted, FileRow, Rows};
use self::upload::Upload;
use crate::http::problem::Problem;

pub use error::FileError;
pub use forms::{Form, FormPart};
pub use info::{FileInfo, PutOptions, PutWhen, SpaceInfo};
pub use judging::{Judgement, Verdict};
pub use links::{LINK_LIFE, LINK_LONGEST, Link, ReadLink};
pub use naming::{UNKNOWN_TYPE, safe_name, type_of};
pub use owners::Owner;
#[cfg(any(test, feature = "test-support"))]
pub use points::{stand_still_at, stands_still};
pub use rules::{NamedRule, Sharing, SpaceRule, Unused};
pub use serve::Disposition;
pub use service::FileService;
pub use stored::StoredFile;

/// Digits of a digest.
const DIGITS: usize = 64;

/// Files that every node sees; a cheap clone. Handlers are given it as an argument.
///
/// ```
/// use actix_web::{HttpRequest, HttpResponse, web};
/// use understudy_runtime::files::{FileError, Files};
///
/// async fn upload(files: Files, content: web::Payload) -> Result<HttpResponse, FileError> {
///     let avatar = files.space("avatars").put("ann", "image/png", content).await?;
///     Ok(HttpResponse::Ok().json(avatar))
/// }
///
/// async fn download(request: HttpRequest, files: Files) -> Result<HttpResponse, FileError> {
///     Ok(match files.space("avatars").get("ann").await? {
///         Some(file) => file.response(&request).await?,
///         None => HttpResponse::NotFound().finish(),
///     })
/// }
/// # let _ = (web::put().to(upload), web::get().to(download));
/// ```
#[derive(Clone, Default)]
pub struct Files(Arc<OnceLock<Arc<Store>>>);

/// Files that are kept together and counted; a cheap clone. Nothing is looked up before it is asked.
#[derive(Debug, Clone)]
pub struct Space {
    files: Files,
    name: String,
    bounds: Bounds,
}

/// What everything here stands on.
#[derive(Debug)]
struct Store {
    rows: Rows,
    stores: Stores,
    /// What opens and encrypts contents.
    keys: FileKeys,
    limits: Limits,
    serving: Serving,
}

/// What serving files needs beside them.
#[derive(Debug)]
struct Serving {
    signer: Signer,
    /// Who says whether a file is clean, where somebody does.
    judge: Option<Judge>,
}

/// How much may be there.
#[derive(Debug, Clone, Copy)]
struct Limits {
    file_bytes: u64,
    space_bytes: u64,
}

impl Files {
    /// Gives the files of a space. It need not be there: it is while there is something in it.
    #[must_use]
    pub fn space(&self, name: &str) -> Space {
        Space { files: self.clone(), name: name.to_owned(), bounds: Bounds::default() }
    }

    /// Lists the spaces in which there is something by name, those behind `after`.
    ///
    /// # Errors
    /// [`FileError::BadName`]; else when they cannot be listed now.
    pub async fn spaces(&self, after: &str, limit: u32) -> Result<Vec<SpaceInfo>, FileError> {
        let after = naming::behind(after)?;
        Ok(self.store()?.rows.spaces(&after, limit).await?)
    }

    fn store(&self) -> Result<&Arc<Store>, FileError> {
        self.0.get().ok_or(FileError::NotInstalled)
    }
}

impl Space {
    /// Writes a file. One of that name is replaced when all of the new one is there; before that, and when anything goes
    /// wrong, it stays as it is. The content is never in memory as a whole.
    ///
    /// If the node dies in the middle nothing is seen of it, and what was written is removed within about 20 minutes. After
    /// an error that [may pass](FileError::is_retryable) the file may be there.
    ///
    /// # Errors
    /// [`FileError::BadName`]; [`FileError::TooLarge`], [`FileError::SpaceFull`], [`FileError::TooManyFiles`] and
    /// [`FileError::NoRoom`] at the limits; [`FileError::BrokeOff`] when `content` does; [`FileError::NoKey`] where it is to be
    /// [encrypted](Self::encrypted) and there is no key; else when it cannot be stored now.
    pub async fn put<S, E>(
        &self,
        name: &str,
        content_type: &str,
        content: S,
    ) -> Result<FileInfo, FileError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        self.put_with(PutOptions::default(), (name, content_type), content).await
    }

    /// Writes a file under conditions: that there is none yet, or a certain one, or that nothing was written under a key, and that
    /// its content has a certain digest.
    /// Of many who write at once under one condition, one succeeds.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`FileError::Changed`], [`FileError::OtherDigest`] and [`FileError::BadDigest`] too.
    pub async fn put_with<S, E>(
        &self,
        options: PutOptions,
        (name, content_type): (&str, &str),
        content: S,
    ) -> Result<FileInfo, FileError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let (store, space) = self.entered()?;
        let name = naming::file_name(name)?;
        if options.sha256.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err(FileError::BadDigest);
        }
        // What is known to be in vain is not written first. What counts is decided when it gets its name.
        let is_in_vain = match &options.when {
            PutWhen::Always => false,
            PutWhen::Once(key) => store.rows.is_used(key).await?,
            PutWhen::Absent | PutWhen::Version(_) => {
                let found = store.rows.find(&space, &name).await?.map(|row| row.info.version);
                !options.when.allows(found.as_deref())
            }
        };
        if is_in_vain {
            return Err(FileError::Changed);
        }
        let mut content = std::pin::pin!(futures_util::StreamExt::fuse(content));
        let peeked = kinds::peek(content.as_mut()).await;
        let kind = self.bounds.kinds.admit(content_type, &peeked.head)?;
        let encryption = self.bounds.encryption;
        let mut upload = Upload::begin(store, space, name, kind, encryption).await?;
        upload.narrow(store.limits.within(&self.bounds));
        let all = futures_util::StreamExt::chain(futures_util::stream::iter(peeked.read), content);
        upload.fill(all).await?;
        let is_once = matches!(options.when, PutWhen::Once(_));
        let info = upload.publish(options).await?;
        if let Some(judge) = &store.serving.judge {
            judge.look_soon(store, &info);
        }
        metrics::counter!("understudy_files_written_total").increment(1);
        metrics::counter!("understudy_files_written_bytes_total").increment(info.bytes);
        // Last: whoever wrote the file may go away while this takes its time.
        if is_once {
            store.rows.forget_used().await;
        }
        Ok(info)
    }

    /// Finds a file; `None` if there is none.
    ///
    /// # Errors
    /// [`FileError::BadName`], [`FileError::OtherStore`]; [`FileError::UnknownKey`] and [`FileError::OtherKey`] where it is
    /// encrypted; [`FileError::Quarantined`] and [`FileError::Infected`] where files are
    /// examined; else when it cannot be looked for now.
    pub async fn get(&self, name: &str) -> Result<Option<StoredFile>, FileError> {
        let Some(file) = self.find(name).await? else { return Ok(None) };
        if let Some(judge) = &self.files.store()?.serving.judge {
            judge.admit(file.info()).await?;
        }
        Ok(Some(file))
    }

    /// Finds a file, whatever was said of it: not for those who are served files.
    async fn find(&self, name: &str) -> Result<Option<StoredFile>, FileError> {
        let Some(row) = self.row(name).await? else { return Ok(None) };
        StoredFile::of(self.files.store()?, row).map(Some)
    }

    /// Finds what is known of a file, for which neither its store nor its key is needed.
    async fn row(&self, name: &str) -> Result<Option<FileRow>, FileError> {
        let (store, space) = self.entered()?;
        let name = naming::file_name(name)?;
        Ok(store.rows.find(&space, &name).await?)
    }

    /// Lists files by name, those behind `after`.
    ///
    /// # Errors
    /// [`FileError::BadName`]; else when they cannot be listed now.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<FileInfo>, FileError> {
        let (store, space) = self.entered()?;
        let after = naming::behind(after)?;
        Ok(store.rows.list(&space, &after, limit).await?)
    }

    /// Removes a file; says whether there was one. Whoever is just reading it can do so to its end.
    ///
    /// # Errors
    /// [`FileError::BadName`]; else when it cannot be removed now.
    pub async fn delete(&self, name: &str) -> Result<bool, FileError> {
        self.delete_version(name, None).await
    }

    /// Removes a file if it is this [version](FileInfo::version) of it; says whether there was one.
    ///
    /// # Errors
    /// As [`delete`](Self::delete); [`FileError::Changed`] when it is another.
    pub async fn delete_if(&self, name: &str, version: &str) -> Result<bool, FileError> {
        self.delete_version(name, Some(version)).await
    }

    async fn delete_version(&self, name: &str, version: Option<&str>) -> Result<bool, FileError> {
        let (store, space) = self.entered()?;
        let name = naming::file_name(name)?;
        match store.rows.delete(&space, &name, version).await? {
            Deleted::Out => Ok(true),
            Deleted::None => Ok(false),
            Deleted::Changed => Err(FileError::Changed),
        }
    }

    fn entered(&self) -> Result<(&Arc<Store>, String), FileError> {
        Ok((self.files.store()?, naming::space_name(&self.name)?))
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("started", &self.0.get().is_some()).finish()
    }
}

impl FromRequest for Files {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.app_data::<Self>().cloned().ok_or_else(|| {
            let (status, code) = (StatusCode::INTERNAL_SERVER_ERROR, "files_not_installed");
            Problem::new(status, code, "Files need a node")
        }))
    }
}
