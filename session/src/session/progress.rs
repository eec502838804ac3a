//! Tells the pages of a session how far an upload is.

use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::Session;
use crate::realtime::SessionEvent;

/// Name of the event.
const EVENT: &str = "upload";
/// How often at most pages are told.
const EVERY: Duration = Duration::from_millis(500);
/// How long an upload waits until pages are told.
const LIMIT: Duration = Duration::from_secs(1);

impl Session {
    /// Passes the body of a request on as it comes, and tells the pages that this session has open how far it is: the event
    /// `upload` with `upload` (what the page calls it), `bytes`, `of` (how many there will be, if that is known) and `state`:
    /// `running`, `received` when all of it is there, `broken` when it broke off. That it is *saved* is for the application to say.
    ///
    /// Pages are told twice a second at most. When they cannot be told the upload goes on, and nothing more is told of it. Nothing
    /// is told without a session.
    ///
    /// ```
    /// use actix_web::{HttpRequest, HttpResponse, web};
    /// use understudy_runtime::files::{FileError, Files};
    /// use understudy_session::Session;
    ///
    /// async fn upload(
    ///     request: HttpRequest,
    ///     session: Session,
    ///     files: Files,
    ///     body: web::Payload,
    /// ) -> Result<HttpResponse, FileError> {
    ///     let body = session.upload_progress("cv", None, body);
    ///     let saved = files.space("papers").save(&request, "cv.pdf", body).await?;
    ///     Ok(HttpResponse::Ok().json(saved))
    /// }
    /// # let _ = web::put().to(upload);
    /// ```
    pub fn upload_progress<S, E>(
        &self,
        upload: &str,
        of: Option<u64>,
        body: S,
    ) -> impl Stream<Item = Result<Bytes, E>> + use<S, E>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let telling = Telling {
            session: self.clone(),
            upload: upload.to_owned(),
            of,
            bytes: 0,
            told: None,
            is_silent: false,
        };
        let begun = (telling, Box::pin(body));
        stream::unfold(Some(begun), |state| async move {
            let (mut telling, mut body) = state?;
            match body.next().await {
                Some(Ok(bytes)) => {
                    telling.passed(bytes.len()).await;
                    Some((Ok(bytes), Some((telling, body))))
                }
                Some(Err(error)) => {
                    telling.tell("broken").await;
                    Some((Err(error), None))
                }
                None => {
                    telling.tell("received").await;
                    None
                }
            }
        })
    }
}

/// What is told of one upload.
struct Telling {
    session: Session,
    upload: String,
    of: Option<u64>,
    bytes: u64,
    told: Option<Instant>,
    is_silent: bool,
}

impl Telling {
    async fn passed(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.told.is_none_or(|told| told.elapsed() >= EVERY) {
            self.tell("running").await;
        }
    }

    async fn tell(&mut self, state: &'static str) {
        if self.is_silent {
            return;
        }
        let value = json!({
            "upload": self.upload,
            "bytes": self.bytes,
            "of": self.of,
            "state": state,
        });
        let told = match SessionEvent::new(EVENT, &value) {
            Ok(event) => timeout(LIMIT, self.session.tell(&event)).await,
            Err(error) => Ok(Err(error)),
        };
        self.told = Some(Instant::now());
        let why = match told {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        tracing::debug!(error = why, "pages are told no more of an upload");
        self.is_silent = true;
    }
}
