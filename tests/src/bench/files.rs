//! How fast files are written and read at a node, in each store, beside nginx with the same file on the same disk, and beside
//! the client library of S3 at the same bucket with nothing around it.
//!
//! One client, one file at a time, over loopback: a node can be no faster than the least of what it waits for, and what is asked
//! here is how much it adds to that.

mod peers;
mod report;

use std::time::Duration;

use actix_web::web::Bytes;
use reqwest::Method;
use tokio::time::Instant;

use super::run::Options;
use crate::servers::Scratch;
use crate::{Client, Cluster, Nginx, S3};

use peers::Bare;
use report::Sample;

pub use report::FilesReport;

/// The store that each node writes to.
const STORES: [&str; 3] = ["database", "folder", "s3"];
const FILE_MIB: usize = 128;
const LARGEST: &str = "268435456";
const LIMIT: Duration = Duration::from_secs(120);

/// Who keeps the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// nginx, in a folder.
    Nginx,
    /// The client library of S3, in the bucket.
    Bare,
    /// A node, in a store, by its number in [`STORES`].
    Node(usize),
}

impl Way {
    const ALL: [Self; 5] = [Self::Nginx, Self::Bare, Self::Node(0), Self::Node(1), Self::Node(2)];

    fn name(self) -> String {
        match self {
            Self::Nginx => "nginx, a folder".to_owned(),
            Self::Bare => "object_store alone, a bucket".to_owned(),
            Self::Node(number) => format!("node, `{}`", STORES[number]),
        }
    }
}

/// Everything that is compared, started.
struct Stage {
    // Dropped in this order: nodes before what they use.
    cluster: Cluster,
    nginx: Nginx,
    bare: Bare,
    _s3: S3,
    _folders: [Scratch; 2],
}

/// Measures on a cluster of three nodes, each with another store; `progress` is told each measurement.
pub async fn measure(options: &Options, mut progress: impl FnMut(String)) -> FilesReport {
    let (stage, content) = (Stage::start(options).await, content());
    let mut report = FilesReport::default();
    // One more than counts: the first meets cold caches and files that are not there yet.
    for round in 0..=options.rounds {
        let mut ways = Way::ALL;
        if round % 2 == 1 {
            ways.reverse();
        }
        for way in ways {
            let sample = stage.sample(way, &content).await;
            progress(format!("files, round {round}: {}: {sample}", way.name()));
            if round > 0 {
                report.add(way, sample);
            }
        }
    }
    report
}

/// Bytes that no disk and no wire can make smaller.
fn content() -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..(FILE_MIB << 20) / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect::<Vec<u8>>().into()
}

impl Stage {
    async fn start(options: &Options) -> Self {
        let (shared, served) = (Scratch::new("bench-shared"), Scratch::new("bench-served"));
        let s3 = S3::start().await;
        let mut builder = Cluster::builder()
            .nodes(STORES.len())
            .env("UNDERSTUDY_HTTP_BODY_LIMIT_BYTES", LARGEST)
            .env("UNDERSTUDY_FILES_MAX_FILE_BYTES", LARGEST)
            .env("UNDERSTUDY_FILES_DIR", &shared.path().display().to_string());
        for (name, value) in s3.environment().iter().chain(&options.environment) {
            builder = builder.env(name, value);
        }
        for (node, store) in STORES.iter().enumerate() {
            builder = builder.node_env(node, "UNDERSTUDY_FILES_STORE", store);
        }
        let (nginx, bare) = (peers::nginx(served.path()).await, Bare::connect(&s3));
        let cluster = builder.start().await;
        Self { cluster, nginx, bare, _s3: s3, _folders: [shared, served] }
    }

    async fn sample(&self, way: Way, content: &Bytes) -> Sample {
        let before = self.processor(way);
        let begun = Instant::now();
        self.write(way, content).await;
        let written = begun.elapsed();
        let between = self.processor(way);
        let begun = Instant::now();
        self.read(way).await;
        let read = begun.elapsed();
        let after = self.processor(way);
        Sample::new(content.len(), [written, read], [between - before, after - between])
    }

    /// Processor time of the node so far; of others it is not asked.
    fn processor(&self, way: Way) -> Duration {
        match way {
            Way::Node(number) => self.cluster.nodes[number].usage().processor,
            Way::Nginx | Way::Bare => Duration::ZERO,
        }
    }

    fn address(&self, way: Way) -> (String, &'static str) {
        match way {
            Way::Node(number) => (self.cluster.url(number).to_owned(), "/shared?name=bench"),
            Way::Nginx | Way::Bare => (self.nginx.url(), "/bench"),
        }
    }

    async fn write(&self, way: Way, content: &Bytes) {
        if way == Way::Bare {
            return self.bare.write(content).await;
        }
        let (url, path) = self.address(way);
        let client = Client::with_timeout(LIMIT);
        let put = client.build(Method::PUT, &url, path).body(content.clone());
        let answer = client.send(put).await.expect("the server answers");
        assert!(answer.status < 300, "{}: {answer:?}", way.name());
    }

    async fn read(&self, way: Way) {
        let mut bytes = 0;
        if way == Way::Bare {
            bytes = self.bare.read(FILE_MIB << 20).await;
        } else {
            let (url, path) = self.address(way);
            let get = Client::with_timeout(LIMIT).build(Method::GET, &url, path);
            let mut answer = get.send().await.expect("the server answers");
            while let Some(piece) = answer.chunk().await.expect("all of it comes") {
                bytes += piece.len();
            }
        }
        assert_eq!(bytes, FILE_MIB << 20, "{}", way.name());
    }
}
