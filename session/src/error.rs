//! What can go wrong with a session, for handlers and, through them, for clients.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};
use understudy_runtime::http::problem::{ApiError, Problem};

use crate::engine::Refusal;
use crate::handle::EndError;
use crate::schema::StepError;
use crate::sizes::Sizes;
use crate::store::StoreError;

/// Why a session could not be read or changed.
///
/// As a response it is a problem document with a stable `code`; whatever it is, the client keeps its cookie.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The session ended while the request was under way: logged out, expired, or another login took its place.
    #[error("the session has ended")]
    Ended,
    /// The session store is away. A change may have been carried out.
    #[error("the session store is not available")]
    Unavailable,
    /// The owner of the session is silent, or this node has too much to do; a change was not carried out.
    #[error("the session is busy")]
    Busy,
    /// The session store refuses, for want of room for example; nothing was changed.
    #[error("the session store refuses")]
    Refused,
    /// Another node took the session over meanwhile; the change was not carried out.
    #[error("the session was taken over by another node meanwhile")]
    Conflict,
    /// The owner of the session was lost, and whether the change was carried out cannot be told.
    #[error(
        "the owner of the session was lost, and whether the change was carried out cannot be told"
    )]
    OutcomeUnknown,
    /// What is stored cannot be read as a session; it stays as it is.
    #[error("the session cannot be read")]
    Unreadable,
    /// The attribute is of another type than the caller expects; it stays as it is.
    #[error("attribute `{name}` has another type")]
    WrongType {
        /// The attribute.
        name: String,
    },
    /// The value cannot be written as JSON.
    #[error("the value for attribute `{name}` cannot be written as JSON")]
    NotJson {
        /// The attribute.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The attribute, or the session with it, would become too large; nothing was changed.
    #[error("attribute `{name}` would make the session too large{}", told(.sizes.as_deref()))]
    TooLarge {
        /// The attribute.
        name: String,
        /// Which limit is in the way, and what is largest; `None` when nobody looked.
        sizes: Option<Box<Sizes>>,
    },
    /// A newer release of the application wrote the attribute, in a [schema](crate::schema) that this one does not know. It stays
    /// as it is, byte for byte.
    #[error("attribute `{name}` has schema {stored}, and this node knows up to {known}")]
    NewerSchema {
        /// The attribute.
        name: String,
        /// Its version.
        stored: u32,
        /// The latest version that this node knows.
        known: u32,
    },
    /// The attribute cannot be brought from one version of its [schema](crate::schema) to the next, or back; it stays as it is.
    #[error("attribute `{name}` cannot be brought to another schema from version {from}")]
    SchemaStep {
        /// The attribute.
        name: String,
        /// From which version.
        from: u32,
        /// Why; `None` when the application has no step for that.
        source: Option<StepError>,
    },
    /// The name is empty or longer than 256 bytes.
    #[error("the name of an attribute, or of a child, has 1 to 256 bytes")]
    BadName,
    /// The name of the user is empty, longer than 256 bytes, or has control characters in it.
    #[error("a user's name has 1 to 256 bytes and no control characters")]
    BadUser,
    /// It is not this user who is logged in.
    #[error("another user is logged in, or nobody")]
    OtherUser,
    /// The user must show again who they are: that was longer ago than wanted.
    #[error("the user must show again who they are")]
    ReauthenticationRequired {
        /// How long ago it may be.
        max_age: Duration,
    },
    /// The user has as many sessions as allowed, and a further login is refused.
    #[error("the user has as many sessions as allowed")]
    TooManySessions,
    /// The other sessions are over at the store, but a node that lives did not say that it knows. To do it again finishes it.
    #[error("sessions are over, but a node did not say that it knows")]
    EndNotConfirmed,
    /// An event cannot be told as it is.
    #[error("the {field} of an event {why}")]
    BadEvent {
        /// What is wrong with it: `name` or `value`.
        field: &'static str,
        /// What would be right.
        why: &'static str,
    },
    /// The session has as many connections for events at this node as it may.
    #[error("the session has as many connections for events as it may")]
    TooManyStreams,
    /// There is no session on which a child or a file could hang: it begins with its first write.
    #[error("there is no session yet on which this could hang; write to it first")]
    NoSession,
    /// The session has as many children as it may have.
    #[error("the session has {most} children, as many as it may have")]
    TooManyChildren {
        /// How many that is.
        most: u32,
    },
    /// The name of a file is empty, longer than 255 bytes, or has a slash, a backslash or control characters in it.
    #[error("a file's name has 1 to 255 bytes, no slash and no control characters")]
    BadFileName,
    /// The file is larger than a file may be.
    #[error("the file is larger than {most} bytes")]
    FileTooLarge {
        /// How many bytes a file may have.
        most: u64,
    },
    /// The files of the session would be larger together than they may be.
    #[error("the files of the session would be larger than {most} bytes together")]
    FilesTooLarge {
        /// How many bytes they may have.
        most: u64,
    },
    /// The session has as many files as it may have.
    #[error("the session has {most} files, as many as it may have")]
    TooManyFiles {
        /// How many that is.
        most: u32,
    },
    /// What was to be written into a file broke off; there is no such file.
    #[error("what was to be written into the file broke off")]
    UploadBrokeOff,
    /// The application runs without the session service.
    #[error("the session service is not installed in this application")]
    NotInstalled,
}

impl SessionError {
    fn title(&self) -> String {
        if let Self::TooLarge { name, .. } = self {
            return format!("attribute `{name}` would make the session too large");
        }
        self.to_string()
    }

    /// Adds what a program may want to know.
    fn with_members(&self, problem: Problem) -> Problem {
        if let Self::ReauthenticationRequired { max_age } = self {
            return problem.with_member("max_age_s", max_age.as_secs());
        }
        if let Self::FileTooLarge { most } | Self::FilesTooLarge { most } = self {
            return problem.with_member("limit_bytes", *most);
        }
        if let Self::NewerSchema { name, stored, known } = self {
            let problem = problem.with_member("attribute", name.clone());
            return problem.with_member("stored", *stored).with_member("known", *known);
        }
        if let Self::TooLarge { name, sizes: Some(sizes) } = self {
            let largest: Vec<Value> = sizes.largest.iter().map(|it| json!(it)).collect();
            return problem
                .with_detail(sizes.to_string())
                .with_member("attribute", name.clone())
                .with_member("attribute_bytes", json!(sizes.attribute_bytes))
                .with_member("session_bytes", sizes.session_bytes)
                .with_member("limit", json!(sizes.limit))
                .with_member("limit_bytes", sizes.limit_bytes)
                .with_member("largest", largest);
        }
        problem
    }
}

fn told(sizes: Option<&Sizes>) -> String {
    sizes.map_or_else(String::new, |sizes| format!(": {sizes}"))
}

impl SessionError {
    /// Says whether the same call may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable
                | Self::Busy
                | Self::Refused
                | Self::Conflict
                | Self::OutcomeUnknown
                | Self::EndNotConfirmed
        )
    }
}

impl SessionError {
    /// Names why the session cannot be had now; none for what is right or wrong whoever asks.
    fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable => Some("unavailable"),
            Self::Busy => Some("busy"),
            Self::Refused => Some("refused"),
            Self::Conflict => Some("conflict"),
            Self::OutcomeUnknown => Some("outcome_unknown"),
            Self::Unreadable => Some("unreadable"),
            Self::NewerSchema { .. } => Some("newer_schema"),
            Self::Ended
            | Self::WrongType { .. }
            | Self::NotJson { .. }
            | Self::TooLarge { .. }
            | Self::SchemaStep { .. }
            | Self::BadName
            | Self::BadUser
            | Self::OtherUser
            | Self::ReauthenticationRequired { .. }
            | Self::TooManySessions
            | Self::EndNotConfirmed
            | Self::BadEvent { .. }
            | Self::TooManyStreams
            | Self::NoSession
            | Self::TooManyChildren { .. }
            | Self::BadFileName
            | Self::FileTooLarge { .. }
            | Self::FilesTooLarge { .. }
            | Self::TooManyFiles { .. }
            | Self::UploadBrokeOff
            | Self::NotInstalled => None,
        }
    }
}

impl From<Refusal> for SessionError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ended => Self::Ended,
            Refusal::Unavailable => Self::Unavailable,
            Refusal::Busy | Refusal::NotOwner => Self::Busy,
            Refusal::Refused => Self::Refused,
            Refusal::Conflict => Self::Conflict,
            Refusal::OutcomeUnknown | Refusal::Lost => Self::OutcomeUnknown,
            Refusal::Unreadable => Self::Unreadable,
        }
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::Refused(_) => Self::Refused,
            StoreError::Unreadable(_) => Self::Unreadable,
        }
    }
}

impl From<EndError> for SessionError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => error.into(),
            EndError::Unconfirmed(_) => Self::EndNotConfirmed,
        }
    }
}

impl SessionError {
    /// The status and the code of its problem document.
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Ended => (StatusCode::UNAUTHORIZED, "session_ended"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "session_store_unavailable"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "session_busy"),
            Self::Refused => (StatusCode::INSUFFICIENT_STORAGE, "session_store_refuses"),
            Self::Conflict => (StatusCode::CONFLICT, "session_conflict"),
            Self::OutcomeUnknown => (StatusCode::SERVICE_UNAVAILABLE, "session_outcome_unknown"),
            Self::Unreadable => (StatusCode::SERVICE_UNAVAILABLE, "session_unreadable"),
            Self::WrongType { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "session_wrong_type"),
            Self::NotJson { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "session_not_json"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "session_too_large"),
            Self::NewerSchema { .. } => (StatusCode::SERVICE_UNAVAILABLE, "session_newer_schema"),
            Self::SchemaStep { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "session_schema_step"),
            Self::BadName => (StatusCode::UNPROCESSABLE_ENTITY, "session_bad_name"),
            Self::BadUser => (StatusCode::UNPROCESSABLE_ENTITY, "session_bad_user"),
            Self::OtherUser => (StatusCode::CONFLICT, "session_other_user"),
            Self::ReauthenticationRequired { .. } => {
                (StatusCode::UNAUTHORIZED, "reauthentication_required")
            }
            Self::TooManySessions => (StatusCode::CONFLICT, "session_too_many"),
            Self::EndNotConfirmed => (StatusCode::SERVICE_UNAVAILABLE, "end_not_confirmed"),
            Self::BadEvent { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "session_bad_event"),
            Self::TooManyStreams => (StatusCode::TOO_MANY_REQUESTS, "session_too_many_streams"),
            Self::NoSession => (StatusCode::CONFLICT, "session_none"),
            Self::TooManyChildren { .. } => (StatusCode::CONFLICT, "session_too_many_children"),
            Self::BadFileName => (StatusCode::UNPROCESSABLE_ENTITY, "session_bad_file_name"),
            Self::FileTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "session_file_too_large"),
            Self::FilesTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "session_files_too_large")
            }
            Self::TooManyFiles { .. } => (StatusCode::CONFLICT, "session_too_many_files"),
            Self::UploadBrokeOff => (StatusCode::BAD_REQUEST, "session_upload_broke_off"),
            Self::NotInstalled => (StatusCode::INTERNAL_SERVER_ERROR, "session_not_installed"),
        }
    }
}

impl ApiError for SessionError {
    fn problem(&self) -> Problem {
        let (status, code) = self.code();
        let problem = self.with_members(Problem::new(status, code, self.title()));
        if self.is_retryable() { problem.with_retry_after(Duration::from_secs(1)) } else { problem }
    }
}

impl ResponseError for SessionError {
    fn status_code(&self) -> StatusCode {
        self.problem().status
    }

    fn error_response(&self) -> HttpResponse {
        if let Some(why) = self.refusal() {
            metrics::counter!("session_refusals_total", "why" => why).increment(1);
        }
        self.problem().response()
    }
}
