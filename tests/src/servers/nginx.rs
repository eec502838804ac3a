//! nginx with the configuration that is shipped in deploy/nginx.conf.
//!
//! The shipped file is used as it is but for addresses and paths, so that what the documentation
//! recommends is what the tests prove.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use super::commands::find_program;
use super::ports::free_port;
use super::process::{Launch, Process, Signal, spawn};
use super::scratch::Scratch;
use crate::wait;

const SAMPLE: &str = include_str!("../../../deploy/nginx.conf");
const START_LIMIT: Duration = Duration::from_secs(10);
const PORT_ATTEMPTS: u32 = 5;

/// A running nginx; ended on drop.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
    folder: Scratch,
}

impl Nginx {
    /// Starts it before nodes on these ports of 127.0.0.1, with the shipped configuration.
    pub async fn start(nodes: &[u16]) -> Self {
        Self::with_config(SAMPLE, nodes).await
    }

    /// The same with another configuration: its `listen` line and the `server host:port options;`
    /// lines of its upstream are replaced by these nodes, once for each set of options.
    pub async fn with_config(config: &str, nodes: &[u16]) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let folder = Scratch::new("nginx");
            let port = free_port();
            let file = folder.join("nginx.conf");
            std::fs::write(&file, adapt(config, port, nodes, &folder))
                .expect("an own directory is writable");
            let mut process = spawn(Launch {
                name: "nginx".to_owned(),
                program: find_program("nginx"),
                arguments: vec!["-c".into(), file.into(), "-p".into(), folder.path().into()],
                environment: Vec::new(),
                directory: folder.path().to_owned(),
                log: folder.join("log"),
                user: None,
                // SIGKILL would leave the workers behind.
                farewell: Signal::TERM,
            });
            let (alive, _) = wait::until_some("nginx listens", START_LIMIT, async || {
                if process.exited().is_some() {
                    return Some(false);
                }
                TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
            })
            .await;
            if alive {
                return Self { process, port, folder };
            }
            assert!(process.log().contains("bind()"), "{}", process.tail());
        }
        panic!("nginx did not start on any of {PORT_ATTEMPTS} ports")
    }

    /// Its address without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// One line per request: client, request, status, the nodes that were asked, their statuses.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.join("access.log")).unwrap_or_default()
    }

    /// Its warnings and errors.
    pub fn error_log(&self) -> String {
        self.process.log()
    }

    /// Stops it where it is.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.resume();
    }
}

const LOG_FORMAT: &str = "log_format harness '$remote_addr \"$request\" $status \
    $upstream_addr $upstream_status $upstream_response_time';";

/// Puts the addresses of this test into the configuration, and all paths into `folder`.
fn adapt(config: &str, port: u16, nodes: &[u16], folder: &Scratch) -> String {
    let root = folder.path().display();
    let mut adapted = format!(
        "daemon off;\npid {root}/pid;\nerror_log stderr warn;\nworker_rlimit_nofile 8192;\n"
    );
    let mut written = BTreeSet::new();
    for line in config.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["listen", ..] => adapted += &format!("listen 127.0.0.1:{port};\n"),
            ["http", "{"] => {
                adapted +=
                    &format!("{line}\n{LOG_FORMAT}\naccess_log {root}/access.log harness;\n");
                for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                    adapted += &format!("{kind}_temp_path {root}/{kind};\n");
                }
            }
            ["upstream", ..] => {
                written.clear();
                adapted += &format!("{line}\n");
            }
            // All nodes take the place of the first line with these options; its likes vanish.
            ["server", address, options @ ..] if address.contains(':') => {
                let options = options.join(" ");
                for node in nodes.iter().filter(|_| !written.contains(&options)) {
                    adapted += &format!("server 127.0.0.1:{node} {options}\n");
                }
                written.insert(options);
            }
            _ => adapted += &format!("{line}\n"),
        }
    }
    adapted
}
