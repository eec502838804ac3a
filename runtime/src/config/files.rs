//! Files that all nodes see: `FILES_*`. Temporary files of sessions have options of their own (`SESSION_MAX_FILE_BYTES`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::reader::Reader;
use super::{EncryptionConfig, encryption};
use crate::secret::Secret;

/// The largest limit that can be set: 1 PiB.
const MOST: u64 = 1 << 50;
/// Bytes of the largest object in a bucket: 10,000 parts, as many as there can be, of 5 MiB.
const MOST_OF_S3: u64 = 10_000 * (5 << 20);
const ONE: &str = "UNDERSTUDY_FILES_MAX_FILE_BYTES";
/// The least that can be kept near: a few pieces of the largest kind.
const LEAST_NEAR: u64 = 64 << 20;
/// The least that uploads may hold in memory: three pieces of the largest kind, as one has that encrypts, and a little more.
const LEAST_UPLOAD_MEMORY: u64 = 16 << 20;
/// The longest name of a bucket.
const LONGEST_BUCKET: usize = 63;

/// Files that all nodes see.
#[derive(Debug, Clone)]
pub struct FileStoreConfig {
    /// `FILES_STORE`: where the contents of new files go.
    pub store: FileStoreKind,
    /// `FILES_DIR`: a folder that all nodes share.
    pub dir: Option<PathBuf>,
    /// `FILES_DIR_MARK`: who says that it is the folder of the cluster.
    pub dir_mark: FolderMark,
    /// `FILES_MAX_FILE_BYTES`: the largest file.
    pub file_bytes: u64,
    /// `FILES_MAX_SPACE_BYTES`: all files of one space together.
    pub space_bytes: u64,
    /// `FILES_UPLOAD_MEMORY_BYTES`: how much of files that are being written a node holds in memory.
    pub upload_memory_bytes: u64,
    /// `FILES_SIGNING_KEYS`: what signs links to files, the first; all verify. Those of sessions when there are none.
    pub signing_keys: Vec<Secret<String>>,
    /// `FILES_ENCRYPTION_KEYS`: what the contents of new files are encrypted under, and read with.
    pub encryption: EncryptionConfig,
    /// `FILES_API` and `FILES_API_MAX_USER_BYTES`: how many bytes a user may have in the files that the ready-made node offers;
    /// none when it offers none.
    pub api_user_bytes: Option<u64>,
    /// `FILES_S3_*`; none when no bucket is named.
    pub s3: Option<S3Config>,
    /// `FILES_CACHE_*`; none when no folder is named.
    pub near: Option<NearConfig>,
}

/// Contents that a node keeps near, on a disk of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearConfig {
    /// `FILES_CACHE_DIR`: the folder.
    pub dir: PathBuf,
    /// `FILES_CACHE_MAX_BYTES`: how much is kept in it.
    pub bytes: u64,
}

/// Where the contents of files go. What is known of them is in the database in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStoreKind {
    /// Into the database.
    Database,
    /// Into a folder that all nodes share.
    Folder,
    /// Into a bucket of a server that speaks the protocol of S3.
    S3,
}

impl FileStoreKind {
    /// Names it as the option does.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Folder => "folder",
            Self::S3 => "s3",
        }
    }
}

/// Who puts the marker into a new folder, by which the cluster knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderMark {
    /// The first node of the cluster that comes to it.
    ByTheFirstNode,
    /// Whoever sets the cluster up: a folder without a marker is one that is not mounted.
    ByHand,
}

/// A bucket of a server that speaks the protocol of S3.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// `FILES_S3_BUCKET`.
    pub bucket: String,
    /// `FILES_S3_ENDPOINT`; that of AWS when not set.
    pub endpoint: Option<String>,
    /// `FILES_S3_REGION`.
    pub region: String,
    /// `FILES_S3_PREFIX`: what the names of all objects begin with.
    pub prefix: String,
    /// `FILES_S3_ACCESS_KEY` and `FILES_S3_SECRET_KEY`; the role of the machine when not set.
    pub keys: Option<(String, Secret<String>)>,
    /// `FILES_S3_PATH_STYLE`: the bucket is named in the path and not in the host.
    pub path_style: bool,
    /// `FILES_S3_ENCRYPTION`: how the server encrypts what it is given; as the bucket has it when not set.
    pub encryption: Option<S3Encryption>,
    /// `FILES_S3_REQUEST_TIMEOUT_MS`: how long one request may take.
    pub request_timeout: Duration,
}

/// How a server encrypts objects at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys of its own (SSE-S3).
    Aes256,
    /// With a key of its key service (SSE-KMS), named by its id or ARN.
    Kms(String),
}

impl S3Encryption {
    fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'/' | b'-' | b'_');
        match text.strip_prefix("kms:") {
            None => (text == "aes256").then_some(Self::Aes256),
            Some(key) => {
                (!key.is_empty() && key.bytes().all(allowed)).then(|| Self::Kms(key.to_owned()))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    store: Option<String>,
    dir: Option<String>,
    dir_mark: Option<String>,
    max_file_bytes: Option<String>,
    max_space_bytes: Option<String>,
    upload_memory_bytes: Option<String>,
    signing_keys: Option<String>,
    encryption_keys: Option<String>,
    api: Option<String>,
    api_max_user_bytes: Option<String>,
    s3_bucket: Option<String>,
    s3_endpoint: Option<String>,
    s3_region: Option<String>,
    s3_prefix: Option<String>,
    s3_access_key: Option<String>,
    s3_secret_key: Option<String>,
    s3_path_style: Option<String>,
    s3_encryption: Option<String>,
    s3_request_timeout_ms: Option<String>,
    cache_dir: Option<String>,
    cache_max_bytes: Option<String>,
}

impl FileStoreConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        const STORE: &str = "UNDERSTUDY_FILES_STORE";
        const DIR: &str = "UNDERSTUDY_FILES_DIR";
        const BUCKET: &str = "UNDERSTUDY_FILES_S3_BUCKET";
        const KEYS: &str = "UNDERSTUDY_FILES_ENCRYPTION_KEYS";
        let mut raw: Raw = read.section("FILES_");
        let words = [FileStoreKind::Database, FileStoreKind::Folder, FileStoreKind::S3]
            .map(|kind| (kind.as_str(), kind));
        let store = read.choice(STORE, raw.store.as_deref(), &words);
        let dir = read.optional(DIR, raw.dir.as_deref(), "an absolute path", |text| {
            Path::new(text).is_absolute().then(|| PathBuf::from(text))
        });
        let is_marked = read.flag("UNDERSTUDY_FILES_DIR_MARK", raw.dir_mark.as_deref());
        let dir_mark = if is_marked { FolderMark::ByTheFirstNode } else { FolderMark::ByHand };
        let (file_bytes, space_bytes) = limits(read, &raw);
        let upload_memory_bytes: u64 = read.number(
            "UNDERSTUDY_FILES_UPLOAD_MEMORY_BYTES",
            raw.upload_memory_bytes.as_deref(),
            LEAST_UPLOAD_MEMORY..=MOST,
        );
        let near = near(read, &raw);
        let keys = raw.signing_keys.take();
        let signing_keys = super::session::secrets(read, "UNDERSTUDY_FILES_SIGNING_KEYS", keys);
        let encryption_keys = raw.encryption_keys.take();
        let encryption = encryption::read(read, KEYS, encryption_keys);
        let api_user_bytes = api(read, &raw);
        let s3 = s3(read, raw);
        if store == FileStoreKind::Folder && dir.is_none() && !read.has_problem(DIR) {
            read.problem(DIR, format!("must be set, since {STORE} is folder"));
        }
        if store == FileStoreKind::S3 && s3.is_none() && !read.has_problem(BUCKET) {
            read.problem(BUCKET, format!("must be set, since {STORE} is s3"));
        }
        if store == FileStoreKind::S3 && file_bytes > MOST_OF_S3 && !read.has_problem(ONE) {
            read.problem(ONE, format!("must not be more than {MOST_OF_S3}, since {STORE} is s3"));
        }
        Self {
            store,
            dir,
            dir_mark,
            file_bytes,
            space_bytes,
            upload_memory_bytes,
            signing_keys,
            encryption,
            api_user_bytes,
            s3,
            near,
        }
    }
}

/// What the ready-made node offers.
fn api(read: &mut Reader, raw: &Raw) -> Option<u64> {
    let is_on = read.flag("UNDERSTUDY_FILES_API", raw.api.as_deref());
    let most: u64 = read.number(
        "UNDERSTUDY_FILES_API_MAX_USER_BYTES",
        raw.api_max_user_bytes.as_deref(),
        0..=MOST,
    );
    is_on.then_some(most)
}

fn limits(read: &mut Reader, raw: &Raw) -> (u64, u64) {
    const ALL: &str = "UNDERSTUDY_FILES_MAX_SPACE_BYTES";
    let file_bytes: u64 = read.number(ONE, raw.max_file_bytes.as_deref(), 0..=MOST);
    let space_bytes: u64 = read.number(ALL, raw.max_space_bytes.as_deref(), 0..=MOST);
    if file_bytes > space_bytes && !read.has_problem(ONE) && !read.has_problem(ALL) {
        read.problem(ONE, format!("must not be more than {ALL}"));
    }
    (file_bytes, space_bytes)
}

fn near(read: &mut Reader, raw: &Raw) -> Option<NearConfig> {
    const DIR: &str = "UNDERSTUDY_FILES_CACHE_DIR";
    const BYTES: &str = "UNDERSTUDY_FILES_CACHE_MAX_BYTES";
    let dir = read.optional(DIR, raw.cache_dir.as_deref(), "an absolute path", |text| {
        Path::new(text).is_absolute().then(|| PathBuf::from(text))
    });
    let bytes: u64 = read.number(BYTES, raw.cache_max_bytes.as_deref(), LEAST_NEAR..=MOST);
    dir.map(|dir| NearConfig { dir, bytes })
}

fn s3(read: &mut Reader, raw: Raw) -> Option<S3Config> {
    let bucket = read.optional(
        "UNDERSTUDY_FILES_S3_BUCKET",
        raw.s3_bucket.as_deref(),
        "the name of a bucket: 3 to 63 of `a-z 0-9 . -`",
        |text| is_bucket(text).then(|| text.to_owned()),
    );
    let endpoint = read.optional(
        "UNDERSTUDY_FILES_S3_ENDPOINT",
        raw.s3_endpoint.as_deref(),
        "an address such as https://s3.example.com, without a user and a path",
        |text| is_endpoint(text).then(|| text.trim_end_matches('/').to_owned()),
    );
    let plain = |text: &str| is_plain(text).then(|| text.to_owned());
    let region = read.parsed(
        "UNDERSTUDY_FILES_S3_REGION",
        raw.s3_region.as_deref(),
        "the name of a region, of `A-Z a-z 0-9 . _ -`",
        plain,
    );
    let prefix = read.parsed(
        "UNDERSTUDY_FILES_S3_PREFIX",
        raw.s3_prefix.as_deref(),
        "a name of `A-Z a-z 0-9 . _ -`",
        plain,
    );
    let keys = keys(read, raw.s3_access_key.as_deref(), raw.s3_secret_key);
    let path_style = read.flag("UNDERSTUDY_FILES_S3_PATH_STYLE", raw.s3_path_style.as_deref());
    let encryption = read.optional(
        "UNDERSTUDY_FILES_S3_ENCRYPTION",
        raw.s3_encryption.as_deref(),
        "aes256, or kms: and the id or ARN of a key",
        S3Encryption::parse,
    );
    let request_timeout = read.millis(
        "UNDERSTUDY_FILES_S3_REQUEST_TIMEOUT_MS",
        raw.s3_request_timeout_ms.as_deref(),
        100..=600_000,
    );
    bucket.map(|bucket| S3Config {
        bucket,
        endpoint,
        region,
        prefix,
        keys,
        path_style,
        encryption,
        request_timeout,
    })
}

/// Both halves of a key, or neither.
fn keys(
    read: &mut Reader,
    access: Option<&str>,
    secret: Option<String>,
) -> Option<(String, Secret<String>)> {
    const ACCESS: &str = "UNDERSTUDY_FILES_S3_ACCESS_KEY";
    const SECRET: &str = "UNDERSTUDY_FILES_S3_SECRET_KEY";
    let access = read.optional(ACCESS, access, "the id of a key, without blanks", |text| {
        text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.to_owned())
    });
    let secret = read.secret(SECRET, secret);
    if access.is_some() != secret.is_some() && !read.has_problem(ACCESS) {
        let (set, missing) = if access.is_some() { (ACCESS, SECRET) } else { (SECRET, ACCESS) };
        read.problem(missing, format!("must be set, since {set} is"));
    }
    access.zip(secret)
}

fn is_bucket(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    (3..=LONGEST_BUCKET).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let host = rest.trim_end_matches('/');
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        !host.is_empty() && host.bytes().all(allowed)
    })
}

fn is_plain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed) && !text.starts_with('.')
}
