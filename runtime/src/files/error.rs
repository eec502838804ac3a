//! What can go wrong with a file, for applications and, through them, for clients.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::contents::ContentError;
use crate::database::DatabaseError;
use crate::http::problem::{ApiError, Problem};

/// Why a file could not be written or read.
///
/// As a response it is a problem document with a stable `code`.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A name will not do.
    #[error(
        "the {field} of a file has 1 to 255 bytes, no slash and nothing invisible, and is not . or .."
    )]
    BadName {
        /// Which one: `name`, `space`, `after`, `key`, `owner.kind` or `owner.key`.
        field: &'static str,
    },
    /// The digest that was said is none.
    #[error("a digest is the SHA-256 of the content, as 64 hexadecimal digits")]
    BadDigest,
    /// What a request says of its body cannot be read, or kept.
    #[error("the header {field} cannot be read, or does not go with this request")]
    BadHeader {
        /// Which one.
        field: &'static str,
    },
    /// A form with files is none.
    #[error("the form cannot be read: {why}")]
    BadForm {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A link cannot be made like this.
    #[error("the {field} of a link is out of bounds")]
    BadLink {
        /// Which part of it: `life`.
        field: &'static str,
    },
    /// A rule of a space cannot hold.
    #[error("the {field} of a rule is out of bounds: {why}")]
    BadRule {
        /// Which part of it: `unused`.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A link is not good for this, or not any more.
    #[error("the link is not good for this, or not any more")]
    LinkRefused,
    /// A link that is good for one upload has been used.
    #[error("the link was good for one upload, and has been used")]
    LinkUsed,
    /// The space takes pictures only, and this is none.
    #[error(
        "only pictures are taken here: PNG, JPEG, GIF, WebP and AVIF, and nothing that says to be one"
    )]
    WrongKind,
    /// Nobody has judged yet whether the file is clean.
    #[error("the file is being examined")]
    Quarantined,
    /// The file was found to be infected.
    #[error("the file was found to be infected")]
    Infected,
    /// The file is larger than a file may be.
    #[error("the file is larger than {most} bytes")]
    TooLarge {
        /// How many bytes a file may have.
        most: u64,
    },
    /// The files of the space would be larger together than they may be.
    #[error("the files of the space would be larger than {most} bytes together")]
    SpaceFull {
        /// How many bytes they may have.
        most: u64,
    },
    /// The space has as many files as it may have.
    #[error("the space has {most} files, as many as it may have")]
    TooManyFiles {
        /// How many that is.
        most: u64,
    },
    /// The file is another one than the caller knows, or there is one although there must be none.
    #[error("the file was changed meanwhile, or is not as it must be for this")]
    Changed,
    /// What came is not what was announced by its digest.
    #[error("what came does not have the digest that was announced")]
    OtherDigest,
    /// What was to be written broke off; there is no such file.
    #[error("what was to be written into the file broke off")]
    BrokeOff,
    /// The file was removed, or replaced, while it was read or written.
    #[error("the file has been removed meanwhile")]
    Gone,
    /// The content is not what was written.
    #[error("the content of the file is damaged")]
    Damaged,
    /// The content lies in a store that this node has no options for.
    #[error("the content of the file lies in the store `{place}`, which this node does not know")]
    OtherStore {
        /// Which one: `folder` or `s3`.
        place: String,
    },
    /// The content is encrypted, and this node does not have the key.
    #[error("the file is encrypted under the key `{key}`, which this node does not have")]
    UnknownKey {
        /// The name of the key.
        key: String,
    },
    /// The content is encrypted, and the key of that name is another one; or what opens it was changed.
    #[error("the file is encrypted under a key `{key}` that is not the one of this node")]
    OtherKey {
        /// The name of the key.
        key: String,
    },
    /// The file was to be encrypted, and the node has no key.
    #[error("the file was to be encrypted, and this node has no key for files")]
    NoKey,
    /// The store of the contents cannot be reached.
    #[error("the store of the contents of files is not available")]
    Unavailable,
    /// The store of the contents has no room left.
    #[error("the store of the contents of files has no room left")]
    NoRoom,
    /// The database is away or refuses.
    #[error("what is known of files could not be read or written")]
    Database(#[source] DatabaseError),
    /// The node has not started the service.
    #[error("files need a node that runs")]
    NotInstalled,
}

impl FileError {
    /// Says whether the same call may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable | Self::Quarantined => true,
            Self::Database(error) => error.is_retryable(),
            Self::BadName { .. }
            | Self::BadDigest
            | Self::BadHeader { .. }
            | Self::BadForm { .. }
            | Self::BadLink { .. }
            | Self::BadRule { .. }
            | Self::LinkRefused
            | Self::LinkUsed
            | Self::WrongKind
            | Self::Infected
            | Self::TooLarge { .. }
            | Self::SpaceFull { .. }
            | Self::TooManyFiles { .. }
            | Self::Changed
            | Self::OtherDigest
            | Self::BrokeOff
            | Self::Gone
            | Self::Damaged
            | Self::OtherStore { .. }
            | Self::UnknownKey { .. }
            | Self::OtherKey { .. }
            | Self::NoKey
            | Self::NoRoom
            | Self::NotInstalled => false,
        }
    }

    /// The name of the key that is missing, where that is why.
    pub(super) fn key(&self) -> Option<&str> {
        if let Self::UnknownKey { key } | Self::OtherKey { key } = self { Some(key) } else { None }
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadName { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "file_bad_name"),
            Self::BadDigest => (StatusCode::UNPROCESSABLE_ENTITY, "file_bad_digest"),
            Self::BadHeader { .. } => (StatusCode::BAD_REQUEST, "file_bad_header"),
            Self::BadForm { .. } => (StatusCode::BAD_REQUEST, "file_bad_form"),
            Self::BadLink { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "file_bad_link"),
            Self::BadRule { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "file_bad_rule"),
            Self::LinkRefused => (StatusCode::FORBIDDEN, "file_link_refused"),
            Self::LinkUsed => (StatusCode::GONE, "file_link_used"),
            Self::WrongKind => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "file_wrong_kind"),
            Self::Quarantined => (StatusCode::LOCKED, "file_quarantined"),
            Self::Infected => (StatusCode::FORBIDDEN, "file_infected"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
            Self::SpaceFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "file_space_full"),
            Self::TooManyFiles { .. } => (StatusCode::INSUFFICIENT_STORAGE, "file_too_many"),
            Self::Changed => (StatusCode::PRECONDITION_FAILED, "file_changed"),
            Self::OtherDigest => (StatusCode::UNPROCESSABLE_ENTITY, "file_other_digest"),
            Self::BrokeOff => (StatusCode::BAD_REQUEST, "file_broke_off"),
            Self::Gone => (StatusCode::CONFLICT, "file_gone"),
            Self::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "file_damaged"),
            Self::OtherStore { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "file_other_store"),
            // Another node may have it, and a balancer may ask that.
            Self::UnknownKey { .. } => (StatusCode::SERVICE_UNAVAILABLE, "file_unknown_key"),
            Self::OtherKey { .. } => (StatusCode::SERVICE_UNAVAILABLE, "file_other_key"),
            Self::NoKey => (StatusCode::INTERNAL_SERVER_ERROR, "file_no_key"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "file_store_unavailable"),
            Self::NoRoom => (StatusCode::INSUFFICIENT_STORAGE, "file_store_full"),
            Self::Database(error) if error.is_retryable() => {
                (StatusCode::SERVICE_UNAVAILABLE, "file_store_unavailable")
            }
            Self::Database(_) => (StatusCode::INTERNAL_SERVER_ERROR, "file_store_refuses"),
            Self::NotInstalled => (StatusCode::INTERNAL_SERVER_ERROR, "files_not_installed"),
        }
    }
}

impl From<DatabaseError> for FileError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<ContentError> for FileError {
    /// What the store said is for the log, which the one who meets it writes.
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Database(error) => Self::Database(error),
            ContentError::Gone => Self::Gone,
            ContentError::NoRoom => Self::NoRoom,
            ContentError::Away(why) => {
                tracing::warn!(error = %why, "the store of the contents of files does not do its work");
                Self::Unavailable
            }
        }
    }
}

impl ApiError for FileError {
    fn problem(&self) -> Problem {
        let (status, code) = self.kind();
        let problem = Problem::new(status, code, self.to_string());
        if self.is_retryable() {
            return problem.with_retry_after(Duration::from_secs(1));
        }
        if let Self::TooLarge { most } | Self::SpaceFull { most } = self {
            return problem.with_member("limit_bytes", *most);
        }
        if let Some(key) = self.key() {
            return problem.with_member("key", key);
        }
        if let Self::BadName { field }
        | Self::BadHeader { field }
        | Self::BadLink { field }
        | Self::BadRule { field, .. } = self
        {
            return problem.with_member("field", *field);
        }
        problem
    }
}

crate::answer_with_problem!(FileError);
