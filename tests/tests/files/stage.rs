//! A cluster of three nodes that write to a store each, and what lies there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use understudy_tests::servers::Scratch;
use understudy_tests::{Answer, Client, Cluster, S3, Share, oracle, rounds, wait};

use super::content::{Content, hex};

/// The store that node number 0, 1 and 2 writes to.
pub(super) const STORES: [&str; 3] = ["database", "folder", "s3"];
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// All nodes read what is encrypted under it; the node that writes to this store encrypts.
const KEY: &str = "tests:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(super) const ENCRYPTS: &str = "folder";
const OPERATOR: &str = "files-operator-token-of-the-tests";
/// The largest file, and the largest body of a request.
const LARGEST: &str = "3221225472";
/// How long one request may take: a large file through a busy machine.
const REQUEST: Duration = Duration::from_secs(1_800);
/// How long it may take until nothing is left: a new leader, and two runs.
const SWEPT: Duration = Duration::from_secs(120);

/// A running cluster, and the stores beside its database.
#[derive(Debug)]
pub(super) struct Stage {
    // Dropped in this order: nodes before what they use.
    pub(super) cluster: Cluster,
    pub(super) s3: S3,
    /// Where that is allowed.
    pub(super) share: Option<Share>,
    /// Where it is not, the shared folder is in here.
    _folder: Scratch,
    /// The folder that all nodes share.
    pub(super) place: PathBuf,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let (folder, s3) = (Scratch::new("shared-folder"), S3::start().await);
        let share = match Share::mount(rounds(512, 4_096) as u64) {
            Ok(share) => Some(share),
            Err(why) => {
                oracle::note(&format!(
                    "NOT TESTED: a full disk, and a folder that is really unmounted: {why}"
                ));
                None
            }
        };
        let place = share.as_ref().map_or_else(|| folder.join("place"), |it| it.place().to_owned());
        std::fs::create_dir_all(&place).unwrap();
        let mut builder = Cluster::builder()
            .nodes(STORES.len())
            .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
            .env("UNDERSTUDY_HTTP_BODY_LIMIT_BYTES", LARGEST)
            .env("UNDERSTUDY_HTTP_REQUEST_TIMEOUT_S", &REQUEST.as_secs().to_string())
            .env("UNDERSTUDY_FILES_MAX_FILE_BYTES", LARGEST)
            .env("UNDERSTUDY_FILES_DIR", &place.display().to_string())
            .env("UNDERSTUDY_FILES_ENCRYPTION_KEYS", &format!("plain,{KEY}"))
            .allow_error("has no room left")
            .allow_error("the content of a file is not what was written")
            .allow_error("the content of the file is damaged")
            .allow_error("Response payload stream error");
        for (name, value) in s3.environment() {
            builder = builder.env(&name, &value);
        }
        for (node, store) in STORES.iter().enumerate() {
            builder = builder.node_env(node, "UNDERSTUDY_FILES_STORE", store);
            if *store == ENCRYPTS {
                builder = builder.node_env(node, "UNDERSTUDY_FILES_ENCRYPTION_KEYS", KEY);
            }
        }
        let cluster = builder.start().await;
        Self { cluster, s3, share, _folder: folder, place }
    }

    /// Writes a file at a node.
    pub(super) async fn put(&self, node: usize, name: &str, content: Content) -> Answer {
        let url = self.cluster.url(node);
        put(url, name, content).await.unwrap_or_else(|error| panic!("{name} at {url}: {error}"))
    }

    /// Reads a file at a node; gives its SHA-256, or nothing when there is none.
    pub(super) async fn digest(&self, node: usize, name: &str) -> Option<String> {
        let client = Client::with_timeout(REQUEST);
        let get =
            client.build(Method::GET, self.cluster.url(node), &format!("/shared?name={name}"));
        let mut got = get.send().await.unwrap();
        if got.status().as_u16() == 404 {
            return None;
        }
        assert_eq!(got.status().as_u16(), 200, "{name} at node {node}");
        let mut hash = Sha256::new();
        while let Some(piece) = got.chunk().await.unwrap() {
            hash.update(&piece);
        }
        Some(hex(hash))
    }

    /// The names of all files, as a node lists them.
    pub(super) async fn names(&self, node: usize) -> Vec<String> {
        let listed = Client::new().get(self.cluster.url(node), "/shared-files").await.unwrap();
        let listed: Value = listed.expect(200).json();
        let files = listed["files"].as_array().unwrap();
        files.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Asks the leader for a sweep of what would be swept in ten minutes. It may be refused: one is under way, nobody leads.
    pub(super) async fn ask_for_a_sweep(&self) {
        let aged = "UPDATE us_file SET touched_ms = 0 WHERE state <> 'ready'";
        self.cluster.postgres.query(aged);
        let operator = Client::new().bearing(OPERATOR);
        for node in &self.cluster.nodes {
            let path = "/v1/jobs/system.files-sweep/run";
            drop(operator.post_json(node.admin_url(), path, &json!({})).await);
        }
    }

    /// Lets the leader sweep until nothing is left to do.
    pub(super) async fn sweep(&self) {
        const LEFT: &str = "SELECT count(*) FROM us_file WHERE state <> 'ready'";
        wait::poll("all is swept", SWEPT, Duration::from_millis(500), async || {
            self.ask_for_a_sweep().await;
            (self.cluster.postgres.query(LEFT).trim() == "0").then_some(())
        })
        .await;
    }

    /// What lies in the stores, as `<store> <id>`.
    fn contents(&self) -> BTreeSet<String> {
        let rows = self.cluster.postgres.query("SELECT DISTINCT file FROM us_file_piece");
        let pieces = rows.lines().map(|id| format!("database {}", id.trim()));
        let shelves = names_in(&self.place.join("data"));
        let shelves = shelves.iter().map(|shelf| self.place.join("data").join(shelf));
        let kept = shelves.chain([self.place.join("staging")]).flat_map(|folder| names_in(&folder));
        let kept = kept.map(|id| format!("folder {id}"));
        let objects = self.s3.objects().into_iter().map(|id| format!("s3 {id}"));
        pieces.chain(kept).chain(objects).filter(|line| !line.ends_with(' ')).collect()
    }

    /// States that what lies in the stores is what there are files of: no more and no less.
    pub(super) fn nothing_is_left_and_nothing_lost(&self) {
        let rows = "SELECT replace(place, '-encrypted', '') || ' ' || id FROM us_file WHERE state = 'ready'";
        let rows = self.cluster.postgres.query(rows);
        let living: BTreeSet<String> = rows.lines().map(|line| line.trim().to_owned()).collect();
        let lying = self.contents();
        assert!(!living.is_empty());
        oracle!("contents without a file", lying.difference(&living).count(), 0);
        oracle!("living files without a content", living.difference(&lying).count(), 0);
    }
}

/// Writes a file at this address, which may end meanwhile.
pub(super) async fn put(url: &str, name: &str, content: Content) -> Result<Answer, reqwest::Error> {
    let client = Client::with_timeout(REQUEST);
    let blocks =
        (0..content.mebibytes).map(move |number| Ok::<_, io::Error>(content.block(number)));
    let body = reqwest::Body::wrap_stream(stream::iter(blocks));
    let put = client.build(Method::PUT, url, &format!("/shared?name={name}"));
    client.send(put.body(body)).await
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_in_each_store_a_file_is_whole_or_not_there_whatever_happens() {
    let mut stage = Stage::start().await;
    super::everywhere::a_file_is_the_same_on_every_node(&stage).await;
    super::memory::a_large_file_is_in_memory_nowhere(&stage).await;
    super::broken::what_is_lost_is_a_problem_or_breaks_off(&stage).await;
    super::killed::while_they_write(&mut stage).await;
    super::killed::while_they_sweep(&mut stage).await;
    super::trouble::a_full_disk_is_told_and_passes(&stage).await;
    super::trouble::a_folder_that_is_away_is_told_and_passes(&stage).await;
    super::trouble::a_bucket_that_is_away_is_told_and_passes(&mut stage).await;
    stage.sweep().await;
    stage.nothing_is_left_and_nothing_lost();
}
