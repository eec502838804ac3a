//! A server that speaks the protocol of S3: `s3s-fs`, which checks signatures and keeps objects in a folder.
//!
//! It is told one key and has one bucket. What it keeps is seen as files, so that a test can count objects, and outlives it, so
//! that it can be away and come back. It has no rules of buckets: parts of uploads that never ended stay.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::commands::find_program;
use super::ports::free_port;
use super::process::{Launch, Process, Signal, spawn};
use super::scratch::Scratch;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(10);
const PORT_ATTEMPTS: u32 = 5;
const BUCKET: &str = "understudy";
const ACCESS_KEY: &str = "access-key-of-the-tests";
/// What the names of all objects of nodes begin with, unless they are told otherwise.
const PREFIX: &str = "files";
/// The object by which a node knows the bucket.
const MARKER: &str = "understudy-store";

/// A running server with an empty bucket; ended on drop.
#[derive(Debug)]
pub struct S3 {
    process: Option<Process>,
    port: u16,
    secret_key: String,
    folder: Scratch,
}

impl S3 {
    /// Starts it.
    pub async fn start() -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let folder = Scratch::new("s3");
            std::fs::create_dir_all(folder.join("root").join(BUCKET))
                .expect("an own directory is writable");
            let secret_key = format!("{:032x}", rand::random::<u128>());
            let mut server = Self { process: None, port: free_port(), secret_key, folder };
            if server.try_start().await {
                return server;
            }
        }
        panic!("s3s-fs did not start on any of {PORT_ATTEMPTS} ports")
    }

    /// Its address without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The name of its bucket.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Its key: the id and the secret.
    pub fn key(&self) -> (&'static str, &str) {
        (ACCESS_KEY, &self.secret_key)
    }

    /// The variables by which a node finds the bucket.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("UNDERSTUDY_FILES_S3_ENDPOINT", self.url()),
            ("UNDERSTUDY_FILES_S3_BUCKET", BUCKET.to_owned()),
            ("UNDERSTUDY_FILES_S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
            ("UNDERSTUDY_FILES_S3_SECRET_KEY", self.secret_key.clone()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The ids of the contents that are in the bucket.
    pub fn objects(&self) -> Vec<String> {
        let names = names_in(&self.folder.join("root").join(BUCKET).join(PREFIX));
        names.into_iter().filter(|name| name != MARKER).collect()
    }

    /// How many parts there are of uploads that never ended.
    pub fn parts(&self) -> usize {
        let names = names_in(&self.folder.join("root"));
        names.iter().filter(|name| name.starts_with(".upload_id-")).count()
    }

    /// Kills it; what it keeps stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Starts it again on its port, killing it if it runs.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.try_start().await, "s3s-fs did not come back on its port {}", self.port);
    }

    /// False when it exited at once: the port was taken.
    async fn try_start(&mut self) -> bool {
        let port = self.port;
        let mut process = spawn(Launch {
            name: "s3s-fs".to_owned(),
            program: find_program("s3s-fs"),
            arguments: vec![
                "--host".into(),
                "127.0.0.1".into(),
                "--port".into(),
                port.to_string().into(),
                "--access-key".into(),
                ACCESS_KEY.into(),
                "--secret-key".into(),
                self.secret_key.clone().into(),
                self.folder.join("root").into(),
            ],
            environment: vec![("RUST_LOG".to_owned(), "warn".to_owned())],
            directory: self.folder.path().to_owned(),
            log: self.folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        });
        let (alive, _) = wait::until_some("s3s-fs listens", START_LIMIT, async || {
            if process.exited().is_some() {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
        })
        .await;
        self.process = alive.then_some(process);
        alive
    }
}

/// The names of what is in a folder, which may not be there.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
