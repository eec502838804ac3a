//! One `redis-server` process with a directory and a configuration file of its own.

use std::process::Command;
use std::time::Duration;

use super::certificates::Certificates;
use super::{Data, START_LIMIT};
use crate::servers::commands::{find_program, run};
use crate::servers::ports::free_port;
use crate::servers::process::{Launch, Process, Signal, spawn};
use crate::servers::scratch::Scratch;
use crate::wait;

const CLI_LIMIT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_millis(10);
const PORT_ATTEMPTS: u32 = 5;

/// How the harness itself gets in: as the default user, which may do everything.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) password: Option<String>,
    pub(super) certificates: Option<Certificates>,
}

impl Access {
    /// Runs `redis-cli` at one port; `-e` makes an error answer an error.
    pub(super) fn cli(&self, port: u16, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(find_program("redis-cli"));
        command.args(["-e", "-c", "-h", "127.0.0.1", "-p", &port.to_string()]);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        if let Some(certificates) = &self.certificates {
            let [certificate, key] = certificates.client();
            command.arg("--tls").arg("--cacert").arg(certificates.authority());
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        run(command.args(arguments), CLI_LIMIT)
    }
}

/// A data server; killed on drop.
#[derive(Debug)]
pub struct Server {
    process: Option<Process>,
    name: String,
    port: u16,
    folder: Scratch,
    access: Access,
}

impl Server {
    /// Starts a new server; takes another port when somebody was faster.
    pub(super) async fn create(name: &str, lines: &[String], access: &Access) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let mut server = Self {
                process: None,
                name: name.to_owned(),
                port: free_port(),
                folder: Scratch::new(name),
                access: access.clone(),
            };
            server.configure(lines);
            if server.try_start().await {
                return server;
            }
        }
        panic!("{name} did not start on any of {PORT_ATTEMPTS} ports")
    }

    fn configure(&self, lines: &[String]) {
        let mut config = format!(
            "bind 127.0.0.1\ndir {}\nsave \"\"\nappendfsync no\nprotected-mode yes\n\
             enable-debug-command local\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n",
            self.folder.path().display(),
        );
        match &self.access.certificates {
            Some(certificates) => {
                config += &format!("port 0\ntls-port {}\n", self.port);
                config.extend(certificates.lines().map(|line| line + "\n"));
            }
            None => config += &format!("port {}\n", self.port),
        }
        for line in lines {
            // A second port per server, for those lines that need one.
            let line = line.replace("{free port}", &free_port().to_string());
            config += &format!("{line}\n");
        }
        std::fs::write(self.folder.join("redis.conf"), config)
            .expect("an own directory is writable");
    }

    /// Starts it on its port and waits until it answers.
    pub async fn start(&mut self) {
        let started = self.try_start().await;
        assert!(started, "{} did not come back on its port {}", self.name, self.port);
    }

    /// False when it exited at once, which means that the port was taken.
    async fn try_start(&mut self) -> bool {
        let mut process = spawn(Launch {
            name: self.name.clone(),
            program: find_program("redis-server"),
            arguments: vec![self.folder.join("redis.conf").into()],
            environment: Vec::new(),
            directory: self.folder.path().to_owned(),
            log: self.folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        });
        let what = format!("{} on port {} answers", self.name, self.port);
        let (alive, _) = wait::poll(&what, START_LIMIT, PING_INTERVAL, async || {
            if process.exited().is_some() {
                return Some(false);
            }
            let answer = self.access.cli(self.port, &["PING"]);
            answer.is_ok_and(|text| text == "PONG").then_some(true)
        })
        .await;
        self.process = Some(process);
        alive
    }

    /// Kills it if it runs, and starts it again on its port.
    pub async fn restart(&mut self, data: Data) {
        self.kill();
        if data == Data::Lost {
            self.forget_data();
        }
        self.start().await;
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Sends it a signal, such as STOP and CONT.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Removes what it would load at the next start; its place in a Cluster stays.
    pub(super) fn forget_data(&self) {
        drop(std::fs::remove_dir_all(self.folder.join("appendonlydir")));
        drop(std::fs::remove_file(self.folder.join("appendonly.aof")));
        drop(std::fs::remove_file(self.folder.join("dump.rdb")));
    }

    /// Writes down whom it follows from the next start on, as a sentinel does after a failover.
    pub(super) fn follow_from_start(&self, primary: Option<u16>) {
        let file = self.folder.join("redis.conf");
        let config = std::fs::read_to_string(&file).expect("redis.conf was written before");
        let kept = config.lines().filter(|line| !line.starts_with("replicaof "));
        let mut config: Vec<String> = kept.map(str::to_owned).collect();
        config.extend(primary.map(|port| format!("replicaof 127.0.0.1 {port}")));
        std::fs::write(&file, config.join("\n") + "\n").expect("an own directory is writable");
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs `redis-cli` at this server and returns what it prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments)
            .unwrap_or_else(|error| panic!("{} {arguments:?}: {error}", self.name))
    }

    /// The same, with an error of the server as a value.
    ///
    /// # Errors
    /// What the server or `redis-cli` complained about.
    pub fn try_cli(&self, arguments: &[&str]) -> Result<String, String> {
        self.access.cli(self.port, arguments)
    }
}
