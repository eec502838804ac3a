//! The options of a node: read once at start from environment variables, checked as a whole, passed down by value.
//!
//! One flat struct and one file per section. A field is called like its variable in lower case, without the
//! section and, where its type is [`Duration`](std::time::Duration), without the unit.

mod admin;
mod check;
mod cluster;
mod database;
mod effective;
mod encryption;
mod environment;
mod errors;
mod external_url;
mod files;
mod http;
mod jobs;
mod leader;
mod log;
mod metrics;
mod names;
mod node;
mod ops;
mod reader;
mod redis;
mod registry;
mod session;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::BTreeMap;

use self::effective::Effective;
use self::environment::Environment;
use self::reader::Reader;
use self::redis::RedisSection;
use self::session::Surroundings;

pub use admin::AdminConfig;
pub use cluster::{ClusterConfig, DriftPolicy};
pub use database::{DatabaseConfig, DatabaseUrl, MigrateMode};
pub use effective::{Comparable, Source};
pub use encryption::{EncryptionConfig, EncryptionKey, EncryptionWrites};
pub use errors::ConfigErrors;
pub use external_url::{ExternalUrl, Scheme};
pub use files::{FileStoreConfig, FileStoreKind, FolderMark, NearConfig, S3Config, S3Encryption};
pub use http::HttpConfig;
pub use jobs::{JobsConfig, JobsEnabled};
pub use leader::{LeaderConfig, LeaderFallback};
pub use log::{LogConfig, LogFormat};
pub use metrics::MetricsConfig;
pub use node::NodeConfig;
pub use ops::{DrainMode, OpsConfig, Requirement};
pub use redis::{RedisConfig, RedisTarget, Topology};
pub use registry::{Variable, registry};
pub(crate) use session::is_example;
pub use session::{Durability, FilesConfig, PersistConfig, PersistMode};
pub use session::{MaxPolicy, PlacementConfig, SameSite, SessionConfig, StoreKind, UserConfig};
pub use traces::{TracesConfig, TracesHeader};

/// The exit status of a process whose configuration is wrong: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: i32 = 78;

/// All options of a node, checked against each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// `NODE_*`, `DATA_DIR`, `WEB_ROOT`: what this process is.
    pub node: NodeConfig,
    /// `HTTP_*`: the public listener.
    pub http: HttpConfig,
    /// `ADMIN_*`: the administration listener.
    pub admin: AdminConfig,
    /// `CLUSTER_*`: whether and how this node works with others.
    pub cluster: ClusterConfig,
    /// `REDIS_*`; none when `REDIS_URL` is not set, which a cluster does not allow.
    pub redis: Option<RedisConfig>,
    /// `DATABASE_*`.
    pub database: DatabaseConfig,
    /// `SESSION_*`.
    pub session: SessionConfig,
    /// `LEADER_*`: who leads.
    pub leader: LeaderConfig,
    /// `JOBS_*`: scheduled jobs.
    pub jobs: JobsConfig,
    /// `FILES_*`: files that all nodes see.
    pub files: FileStoreConfig,
    /// `OPS_*`: readiness and drain.
    pub ops: OpsConfig,
    /// `LOG_*`.
    pub log: LogConfig,
    /// `METRICS_*`.
    pub metrics: MetricsConfig,
    /// `TRACES_*`.
    pub traces: TracesConfig,
    /// What an operator should hear although it does not stop the node; to be logged once telemetry runs.
    pub warnings: Vec<String>,
    effective: Effective,
}

impl Config {
    /// Reads the environment of this process, and the file named there.
    ///
    /// # Errors
    ///
    /// All mistakes at once; the process should print them and end with [`EXIT_CONFIG`].
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::from_vars(environment::of_process())
    }

    /// Reads variables from elsewhere, by their full names, exactly as [`Config::from_env`] does.
    ///
    /// # Errors
    ///
    /// All mistakes at once.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut read = Reader::new(Environment::read(vars));
        let mut config = Self::read(&mut read);
        check::check(&config, &mut read);
        (config.effective, config.warnings) = read.finish()?;
        Ok(config)
    }

    /// Returns an embedded node for a test: any free port on loopback, a data folder of its own that nobody removes.
    ///
    /// # Panics
    ///
    /// Never: the options are valid.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub fn for_test() -> Self {
        let folder = format!("understudy-test-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(folder);
        let vars = [
            ("UNDERSTUDY_HTTP_BIND", "127.0.0.1:0"),
            ("UNDERSTUDY_ADMIN_BIND", "127.0.0.1:0"),
            ("UNDERSTUDY_DATA_DIR", &folder.to_string_lossy()),
        ];
        Self::from_vars(vars.map(|(name, value)| (name.to_owned(), value.to_owned())))
            .expect("the options are valid")
    }

    /// Returns every variable with the value in effect, secrets as stars, passwords in URLs too.
    #[must_use]
    pub fn redacted(&self) -> BTreeMap<String, String> {
        self.effective.redacted()
    }

    /// Returns where the value of each variable comes from.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<String, Source> {
        self.effective.sources()
    }

    /// Returns the options that should be the same on every node, as nodes compare them; `key` is the asker's.
    #[must_use]
    pub fn comparable(&self, key: &[u8]) -> BTreeMap<String, Comparable> {
        self.effective.comparable(key)
    }

    /// Returns 16 hexadecimal digits that are the same on nodes whose options, those of the node itself apart, are.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.effective.fingerprint()
    }

    fn read(read: &mut Reader) -> Self {
        let http = HttpConfig::read(read);
        let node = NodeConfig::read(read, http.bind.port());
        let cluster = ClusterConfig::read(read);
        let redis = RedisSection::read(read);
        let around = Surroundings {
            in_cluster: cluster.enabled,
            external_url: http.external_url.as_ref(),
            redis: &redis,
        };
        let session = SessionConfig::read(read, &around);
        Self {
            admin: AdminConfig::read(read),
            leader: LeaderConfig::read(read, &redis),
            jobs: JobsConfig::read(read),
            files: FileStoreConfig::read(read),
            database: DatabaseConfig::read(read, &node.data_dir),
            ops: OpsConfig::read(read),
            log: LogConfig::read(read),
            metrics: MetricsConfig::read(read),
            traces: TracesConfig::read(read),
            node,
            http,
            cluster,
            redis: redis.main,
            session,
            warnings: Vec::new(),
            effective: Effective::default(),
        }
    }
}
