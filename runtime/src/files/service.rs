//! How a node starts the service of files, and looks after its stores.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::ServiceConfig;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use sea_orm_migration::MigrationTrait;

use super::contents::{ContentError, Contents, Stores};
use super::database::DatabaseContents;
use super::encryption::FileKeys;
use super::folder::FolderContents;
use super::held::Held;
use super::judging::{self, Examiner, Judge, Judgement};
use super::links::Signer;
use super::near::Near;
use super::rows::Rows;
use super::s3::S3Contents;
use super::stored::StoredFile;
use super::verify::Turn;
use super::{
    Files, Limits, Serving, Store, linked, operations, orphans, rewrapping, schema, sweep,
    transfer, verify,
};
use crate::admin::Operation;
use crate::clock::SystemClock;
use crate::config::{FileStoreConfig, FileStoreKind};
use crate::database::Database;
use crate::error::chain;
use crate::service::{Health, NodeContext, Service, ServiceError};
use crate::supervise::{Stopped, Supervised, spawn};

/// How often the store is asked whether it can do its work.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// The same, where each question costs something.
const PROBE_FAR_EVERY: Duration = Duration::from_secs(10);
/// How long it has to answer.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// The service of files of a node.
#[derive(Debug, Default)]
pub struct FileService {
    files: Files,
    /// What is wrong with the store that new files go to.
    trouble: Trouble,
    _probe: Option<Supervised>,
    kind: Option<FileStoreKind>,
    examiner: Option<Examiner>,
    /// Whose turn it is to have all files read.
    verifying: Turn,
}

#[derive(Debug, Clone, Default)]
struct Trouble(Arc<ArcSwapOption<String>>);

impl FileService {
    /// Makes the service; nothing happens before the node starts it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the files, for whatever is put together before the node starts. Until then, what is asked of them fails.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// Has `examine` asked of every file whether it is clean; until it was, and said so, nobody is served the file
    /// ([`FileError::Quarantined`](super::FileError::Quarantined)). All nodes must be given the same.
    ///
    /// It is asked on the node that wrote the file, soon after, and may take five minutes. When it fails, or the node dies, it is
    /// asked again within two minutes, on the node that leads; so it may be asked twice, and the worse answer counts. Files that
    /// were written before there was an examiner are examined too.
    ///
    /// It says a [`Verdict`](super::Verdict), with a [reason](super::Verdict::because) if there is one; that, or why it failed, is what
    /// operators are shown.
    #[must_use]
    pub fn examine<F, Fut, J>(mut self, examine: F) -> Self
    where
        F: Fn(StoredFile) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<J, String>> + Send + 'static,
        J: Into<Judgement> + 'static,
    {
        self.examiner = Some(Examiner::new(examine));
        self
    }
}

#[async_trait(?Send)]
impl Service for FileService {
    fn name(&self) -> &'static str {
        "files"
    }

    /// Nothing: what is written or read belongs to requests, and they are over by then.
    fn stop_limit(&self) -> Duration {
        Duration::ZERO
    }

    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        schema::migrations()
    }

    async fn start(&mut self, node: &NodeContext) -> Result<(), ServiceError> {
        let judge = self.examiner.clone().map(|it| Judge::new(it, node.database.clone()));
        let store = Arc::new(open(node, judge).await?);
        node.duties.add(sweep::duty(&store));
        node.duties.add(orphans::duty(&store));
        if let Some(judge) = &store.serving.judge {
            node.duties.add(judging::duty(judge, &store));
        }
        let (probed, trouble) = (Arc::clone(&store), self.trouble.clone());
        self._probe = Some(spawn("files-probe", move || {
            let (store, trouble) = (Arc::clone(&probed), trouble.clone());
            async move { store.watch(&trouble).await }
        }));
        self.kind = Some(store.stores.kind);
        if self.files.0.set(store).is_err() {
            let message = "the service of files was started twice".to_owned();
            return Err(ServiceError::Failed { message, source: None });
        }
        Ok(())
    }

    /// Without its folder a node serves nobody: another one has it. Without the bucket none has files, and all have the rest.
    fn health(&self) -> Health {
        let Some(why) = self.trouble.0.load_full() else { return Health::Ready };
        match self.kind {
            Some(FileStoreKind::S3) => Health::Degraded(String::clone(&why)),
            Some(FileStoreKind::Folder | FileStoreKind::Database) | None => {
                Health::Failed(String::clone(&why))
            }
        }
    }

    fn web(&self, app: &mut ServiceConfig) {
        app.app_data(self.files.clone());
        linked::configure(app);
    }

    fn operations(&self) -> &'static [Operation] {
        operations::OPERATIONS
    }

    fn admin(&self, app: &mut ServiceConfig) {
        super::admin::configure(app, &self.files);
        orphans::admin::configure(app);
        rewrapping::admin::configure(app);
        transfer::configure(app);
        verify::configure(app, &self.verifying);
    }
}

async fn open(node: &NodeContext, judge: Option<Judge>) -> Result<Store, ServiceError> {
    let config = &node.config.files;
    let sessions = &node.config.session.secret;
    let signer = Signer::new(&config.signing_keys, sessions, Arc::clone(&node.clock));
    let serving = Serving { signer, judge };
    let Store { rows, stores, keys, limits, .. } = open_on(config, &node.database).await?;
    let near = Near::open(node).await;
    let near = |contents: Arc<dyn Contents>| Near::around(near.as_ref(), contents);
    let Stores { kind, database, folder, s3 } = stores;
    let (database, folder, s3) = (near(database), folder.map(near), s3.map(near));
    let stores = Stores { kind, database, folder, s3 };
    Ok(Store { rows, stores, keys, limits, serving })
}

/// Opens the stores that these options name.
pub(super) async fn open_on(
    config: &FileStoreConfig,
    rows: &Database,
) -> Result<Store, ServiceError> {
    let held = Held::new(config.upload_memory_bytes);
    let database = DatabaseContents::new(rows.clone()).holding(&held);
    let database: Arc<dyn Contents> = Arc::new(database);
    let folder: Option<Arc<dyn Contents>> = match &config.dir {
        Some(root) => {
            let folder =
                FolderContents::open(root, config.dir_mark, rows).await.map_err(not_yet)?;
            Some(Arc::new(folder.holding(&held)))
        }
        None => None,
    };
    let s3: Option<Arc<dyn Contents>> = match &config.s3 {
        Some(s3) => Some(Arc::new(S3Contents::new(s3).map_err(wrong)?.holding(&held))),
        None => None,
    };
    let stores = Stores { kind: config.store, database, folder, s3 };
    let limits = Limits { file_bytes: config.file_bytes, space_bytes: config.space_bytes };
    let signer = Signer::new(&config.signing_keys, &[], SystemClock::shared());
    let serving = Serving { signer, judge: None };
    let keys = FileKeys::new(&config.encryption);
    Ok(Store { rows: Rows::new(rows.clone()), stores, keys, limits, serving })
}

/// A folder can be mounted while the node waits, also when it is another cluster's now.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn not_yet(error: ContentError) -> ServiceError {
    ServiceError::Retryable(format!(
        "the folder for files (UNDERSTUDY_FILES_DIR): {}",
        chain(&error)
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn wrong(error: ContentError) -> ServiceError {
    ServiceError::Configuration(format!(
        "the bucket for files (UNDERSTUDY_FILES_S3_*): {}",
        chain(&error)
    ))
}

impl Store {
    /// Asks the store again and again whether it can do its work.
    async fn watch(&self, trouble: &Trouble) -> Stopped {
        loop {
            self.look(trouble).await;
            let is_far = self.stores.kind == FileStoreKind::S3;
            tokio::time::sleep(if is_far { PROBE_FAR_EVERY } else { PROBE_EVERY }).await;
        }
    }

    async fn look(&self, trouble: &Trouble) {
        let Some(contents) = self.stores.chosen() else { return };
        let found = match tokio::time::timeout(PROBE_LIMIT, contents.probe()).await {
            Ok(found) => found.err().map(|error| chain(&error)),
            Err(_) => Some(format!("it did not answer within {} s", PROBE_LIMIT.as_secs())),
        };
        metrics::gauge!("understudy_files_store_up").set(if found.is_none() { 1.0 } else { 0.0 });
        let before = trouble.0.swap(found.clone().map(Arc::new));
        match (before, found) {
            (None, Some(why)) => {
                tracing::warn!(error = %why, "the store of the contents of files is away");
            }
            (Some(_), None) => tracing::info!("the store of the contents of files is back"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}
