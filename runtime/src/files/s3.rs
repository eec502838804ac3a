//! Contents in a bucket of a server that speaks the protocol of S3. **The only module that knows the client library.**
//!
//! An object is written once, under an id that is never used again, and is there when all of it is. So it needs nothing of
//! the server but to take, to give and to remove objects.
//!
//! What is larger than a piece is written in parts, which are no objects before all of them are one. So there is a note beside
//! it while it is written, a small object that says which upload it is: whoever removes the content of a node that died finds
//! that and ends the upload. An upload that ends between its beginning and its note has no part yet. A part that arrives while its
//! upload is being ended may stay all the same, says S3: for those a rule of the bucket is good (`AbortIncompleteMultipartUpload`).
//!
//! A connection belongs to the runtime that opened it, so all of it is done on that of the node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt as _, PutPayload, RetryConfig};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::contents::{ContentError, Contents, Piece, Writing};
use super::held::Held;
use crate::config::{S3Config, S3Encryption};
use crate::error::chain;

/// How many bytes are written and read at once: no less than servers want of a part, no more since some pieces are in memory at a
/// time for each upload.
const PIECE: usize = 5 << 20;
/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often a request is repeated that failed.
const RETRIES: usize = 2;
/// An object that is there if the bucket is.
const MARKER: &str = "understudy-store";

/// The store; a cheap clone.
#[derive(Clone)]
pub(super) struct S3Contents {
    bucket: Arc<AmazonS3>,
    prefix: String,
    home: Handle,
    limit: Duration,
    held: Option<Held>,
}

impl S3Contents {
    /// Makes the store; asks nobody. Must be called on the runtime of the node.
    pub(super) fn new(config: &S3Config) -> Result<Self, ContentError> {
        let client = ClientOptions::default()
            .with_timeout(config.request_timeout)
            .with_connect_timeout(CONNECT_LIMIT.min(config.request_timeout));
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: config.request_timeout,
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(config.bucket.as_str())
            .with_region(config.region.as_str())
            .with_virtual_hosted_style_request(!config.path_style)
            .with_retry(retry)
            .with_client_options(client);
        if let Some(endpoint) = &config.endpoint {
            let address = if config.path_style {
                endpoint.clone()
            } else {
                endpoint.replacen("://", &format!("://{}.", config.bucket), 1)
            };
            let is_plain = address.starts_with("http://");
            builder = builder.with_endpoint(address).with_allow_http(is_plain);
        }
        if let Some((id, secret)) = &config.keys {
            builder = builder
                .with_access_key_id(id.as_str())
                .with_secret_access_key(secret.expose().as_str());
        }
        if let Some(encryption) = &config.encryption {
            builder = encrypted(builder, encryption).map_err(|error| away(&error))?;
        }
        let bucket = builder.build().map_err(|error| away(&error))?;
        Ok(Self {
            bucket: Arc::new(bucket),
            prefix: config.prefix.clone(),
            home: Handle::current(),
            limit: config.request_timeout.saturating_mul(2),
            held: None,
        })
    }

    /// Bounds what uploads hold in memory.
    pub(super) fn holding(self, held: &Held) -> Self {
        Self { held: Some(held.clone()), ..self }
    }

    fn path(&self, id: &str) -> Path {
        Path::from(format!("{}/{id}", self.prefix))
    }

    /// Where it stands which upload brings the parts of an object.
    fn note(&self, id: &str) -> Path {
        Path::from(format!("{}/{id}.upload", self.prefix))
    }

    /// Does something on the runtime of the node, within a limit of time.
    async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, ContentError> {
        match self.home.spawn(timeout(self.limit, work).in_current_span()).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(object_store::Error::NotFound { .. }))) => Err(ContentError::Gone),
            Ok(Ok(Err(error))) => Err(away(&error)),
            Ok(Err(_)) => {
                let text = format!("it did not answer within {} ms", self.limit.as_millis());
                Err(ContentError::Away(text))
            }
            Err(error) => Err(ContentError::Away(error.to_string())),
        }
    }

    async fn put(&self, path: Path, content: Bytes) -> Result<(), ContentError> {
        let bucket = Arc::clone(&self.bucket);
        let put = async move {
            let put = bucket.put(&path, PutPayload::from(content)).await;
            put.map(|_| ())
        };
        self.at_home(put).await.map_err(missing)
    }

    async fn delete(&self, path: Path) -> Result<(), ContentError> {
        let bucket = Arc::clone(&self.bucket);
        present(self.at_home(async move { bucket.delete(&path).await }).await).map(|_| ())
    }

    /// The upload of which a note says that it brings the parts of an object.
    async fn noted(&self, id: &str) -> Result<Option<String>, ContentError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.note(id));
        let get = async move { bucket.get(&path).await?.bytes().await };
        let note: Option<Bytes> = present(self.at_home(get).await)?;
        Ok(note.map(|note| String::from_utf8_lossy(&note).into_owned()))
    }

    /// Ends an upload and removes its parts, unless they have become an object.
    async fn end(&self, id: &str, upload: String) -> Result<(), ContentError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(id));
        let look = async move { bucket.head(&path).await.map(|_| ()) };
        if present(self.at_home(look).await)?.is_some() {
            return Ok(());
        }
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(id));
        let abort = async move { bucket.abort_multipart(&path, &upload).await };
        present(self.at_home(abort).await).map(|_| ())
    }
}

/// What may not be there.
fn present<T>(found: Result<T, ContentError>) -> Result<Option<T>, ContentError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ContentError::Gone) => Ok(None),
        Err(error) => Err(error),
    }
}

fn away(error: &object_store::Error) -> ContentError {
    ContentError::Away(chain(error))
}

/// Where something is written nothing can be missing but the bucket.
fn missing(error: ContentError) -> ContentError {
    match error {
        ContentError::Gone => ContentError::Away("there is no such bucket".to_owned()),
        other @ (ContentError::NoRoom | ContentError::Away(_) | ContentError::Database(_)) => other,
    }
}

/// Has the server encrypt what it is given.
fn encrypted(
    builder: AmazonS3Builder,
    encryption: &S3Encryption,
) -> object_store::Result<AmazonS3Builder> {
    match encryption {
        S3Encryption::Kms(key) => Ok(builder.with_sse_kms_encryption(key.as_str())),
        S3Encryption::Aes256 => {
            let key: AmazonS3ConfigKey = "aws_server_side_encryption".parse()?;
            Ok(builder.with_config(key, "AES256"))
        }
    }
}

#[async_trait]
impl Contents for S3Contents {
    fn piece(&self) -> usize {
        PIECE
    }

    async fn begin(&self, id: &str) -> Result<Box<dyn Writing>, ContentError> {
        let (store, id) = (self.clone(), id.to_owned());
        Ok(Box::new(S3Writing { store, id, first: None, parts: None }))
    }

    fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    async fn read(&self, id: &str, piece: Piece) -> Result<Bytes, ContentError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(id));
        let range = piece.offset..piece.offset + piece.bytes as u64;
        let read = self.at_home(async move { bucket.get_range(&path, range).await }).await?;
        if read.len() == piece.bytes { Ok(read) } else { Err(ContentError::Gone) }
    }

    async fn remove(&self, id: &str) -> Result<(), ContentError> {
        if let Some(upload) = self.noted(id).await? {
            self.end(id, upload).await?;
            self.delete(self.note(id)).await?;
        }
        self.delete(self.path(id)).await
    }

    async fn probe(&self) -> Result<(), ContentError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(MARKER));
        let look = async move { bucket.head(&path).await.map(|_| ()) };
        match self.at_home(look).await {
            Ok(()) => Ok(()),
            Err(ContentError::Gone) => self.put(self.path(MARKER), Bytes::new()).await,
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for S3Contents {
    /// Shows no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Contents").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// An object that is being written: at once when it is small, else in parts. Dropped before it is finished, it leaves those.
struct S3Writing {
    store: S3Contents,
    id: String,
    /// The first piece, while there is no second one.
    first: Option<Bytes>,
    parts: Option<Parts>,
}

/// The parts of an object so far.
struct Parts {
    upload: String,
    brought: Vec<PartId>,
}

impl S3Writing {
    /// Begins to write in parts, which are found from then on.
    async fn divide(&mut self) -> Result<(), ContentError> {
        let (bucket, path) = (Arc::clone(&self.store.bucket), self.store.path(&self.id));
        let begin = async move { bucket.create_multipart(&path).await };
        let upload: String = self.store.at_home(begin).await.map_err(missing)?;
        self.store.put(self.store.note(&self.id), Bytes::from(upload.clone())).await?;
        self.parts = Some(Parts { upload, brought: Vec::new() });
        Ok(())
    }

    async fn part(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let (bucket, path) = (Arc::clone(&self.store.bucket), self.store.path(&self.id));
        let (upload, number) = (parts.upload.clone(), parts.brought.len());
        let content = PutPayload::from(bytes);
        let put = async move { bucket.put_part(&path, &upload, number, content).await };
        let part: PartId = self.store.at_home(put).await?;
        parts.brought.push(part);
        Ok(())
    }
}

#[async_trait]
impl Writing for S3Writing {
    async fn add(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        if self.parts.is_some() {
            return self.part(bytes).await;
        }
        let Some(first) = self.first.take() else {
            self.first = Some(bytes);
            return Ok(());
        };
        self.divide().await?;
        self.part(first).await?;
        self.part(bytes).await
    }

    async fn finish(&mut self) -> Result<(), ContentError> {
        let Some(Parts { upload, brought }) = self.parts.take() else {
            let content = self.first.take().unwrap_or_default();
            return self.store.put(self.store.path(&self.id), content).await;
        };
        let (bucket, path) = (Arc::clone(&self.store.bucket), self.store.path(&self.id));
        let complete = async move {
            let completed = bucket.complete_multipart(&path, &upload, brought).await;
            completed.map(|_| ())
        };
        self.store.at_home(complete).await?;
        self.store.delete(self.store.note(&self.id)).await
    }
}
