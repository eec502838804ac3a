//! A node as a process of its own: what can be killed, stopped, continued and asked to leave.

mod spec;

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use crate::servers::{Launch, Process, Scratch, Signal, spawn};
use crate::{Client, wait};

pub use spec::{NodeSpec, Program, binary};

/// Processor time and memory of a process so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, in user mode and in the kernel, to 10 ms.
    pub processor: Duration,
    /// Memory in use.
    pub resident_bytes: u64,
}

/// Shorter secrets could be in a log by chance.
const SHORTEST_SECRET: usize = 8;

/// A node process. On drop it is killed, and the test fails if it had logged an error or one of its secrets.
#[derive(Debug)]
pub struct Node {
    process: Option<Process>,
    public_url: String,
    admin_url: String,
    spec: NodeSpec,
    /// Of all its lives: where each was told, and what no log may hold.
    secrets: BTreeSet<(String, String)>,
    folder: Scratch,
}

impl Node {
    fn start(spec: NodeSpec) -> Self {
        let folder = Scratch::new(&spec.name);
        let public_url = format!("http://127.0.0.1:{}", spec.public_port);
        let admin_url = format!("http://127.0.0.1:{}", spec.admin_port);
        let secrets = BTreeSet::new();
        let mut node = Self { process: None, public_url, admin_url, spec, secrets, folder };
        node.start_again();
        node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where it serves its users, without a slash at the end.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Where it serves its operators, without a slash at the end.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The token of its operators, if it has one.
    pub fn operator_token(&self) -> Option<&str> {
        self.spec.environment.get("UNDERSTUDY_ADMIN_OPERATOR_TOKEN").map(String::as_str)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name()))
    }

    /// Waits until it says that it is ready; returns how long that took.
    pub async fn ready(&mut self, limit: Duration) -> Duration {
        let client = Client::with_timeout(Duration::from_secs(2));
        let what = format!("{} is ready", self.spec.name);
        let exited = async || {
            if let Some(process) = &mut self.process
                && let Some(status) = process.exited()
            {
                panic!(
                    "{} ended ({status}) before it was ready\n{}",
                    self.spec.name,
                    process.tail()
                );
            }
            let answer = client.get(&self.public_url, "/health/ready").await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        wait::until(&what, limit, exited).await
    }

    /// Whether its process is there and has not ended.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_running)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
    }

    /// Stops it where it is (SIGSTOP): its connections stay open and silent.
    pub fn stop(&self) {
        self.running().signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.running().signal(Signal::CONT);
    }

    /// Asks it to drain and end (SIGTERM).
    pub fn terminate(&self) {
        self.running().signal(Signal::TERM);
    }

    /// Waits until it has ended; returns its status.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let process = self.process.as_mut().expect("a node was started");
        process.wait_exit(limit).await
    }

    /// Starts it again after it has ended, with the same ports, variables, data and log file.
    pub fn start_again(&mut self) {
        self.kill9();
        if self.spec.program == Program::Older && self.process.is_some() {
            self.spec.program = Program::Fixture;
        }
        let mut environment = self.spec.environment.clone();
        environment
            .entry("UNDERSTUDY_DATA_DIR".to_owned())
            .or_insert_with(|| self.folder.join("data").display().to_string());
        for (variable, value) in &environment {
            let found = secrets_in(variable, value);
            self.secrets.extend(found.into_iter().map(|secret| (variable.clone(), secret)));
        }
        self.process = Some(spawn(Launch {
            name: self.spec.name.clone(),
            program: self.spec.program.path(),
            arguments: Vec::new(),
            environment: environment.into_iter().collect(),
            directory: self.folder.path().to_owned(),
            log: self.folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        }));
    }

    /// Changes a variable for the next [`start_again`](Self::start_again).
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.spec.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Lets it log errors that contain this text.
    pub fn allow_error(&mut self, text: &str) {
        self.spec.allowed_errors.push(text.to_owned());
    }

    /// Everything it has written, over all its lives.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The lines of its log that are JSON.
    pub fn events(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Processor time and memory so far, for benchmarks; Linux only.
    pub fn usage(&self) -> Usage {
        let pid = self.pid();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
        let fields: Vec<u64> =
            fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // utime and stime in 1/100 s, the 14th and 15th field of the whole line.
        let ticks: u64 = fields.iter().skip(11).take(2).sum();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Usage {
            processor: Duration::from_millis(ticks * 10),
            resident_bytes: kib.unwrap_or(0) * 1024,
        }
    }

    /// Lines that an operator would have to act on, without those that the test allows.
    pub fn unexpected_errors(&self) -> Vec<String> {
        let log = self.log();
        let errors = log.lines().filter(|line| is_error(line));
        let unexpected = errors.filter(|line| {
            self.spec.allowed_errors.iter().all(|allowed| !line.contains(allowed.as_str()))
        });
        unexpected.map(str::to_owned).collect()
    }
}

/// What must not be told of a variable, or of the file that it names: all of a secret, each one of a list of them, and
/// the passwords in addresses.
fn secrets_in(variable: &str, value: &str) -> Vec<String> {
    let (variable, text) = match variable.strip_suffix("_FILE") {
        Some(variable) => (variable, std::fs::read_to_string(value).unwrap_or_default()),
        None => (variable, value.to_owned()),
    };
    let is_secret =
        ["SECRET", "SECRET_KEY", "PASSWORD", "TOKEN"].iter().any(|end| variable.ends_with(end));
    let found: Vec<&str> = if is_secret {
        text.split([',', '\n']).map(str::trim).collect()
    } else {
        text.split("://").skip(1).filter_map(password_in).collect()
    };
    let long = found.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
    long.map(str::to_owned).collect()
}

/// The password in what follows the scheme of an address.
fn password_in(address: &str) -> Option<&str> {
    let authority = address.split(['/', '?', ',', '"', ' ']).next()?;
    let (credentials, _) = authority.rsplit_once('@')?;
    credentials.split_once(':').map(|(_, password)| password)
}

/// An event of level ERROR, or the message of a panic.
fn is_error(line: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(event) => event["level"] == "ERROR",
        Err(_) => line.contains(" panicked at ") || line.contains(" ERROR "),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
        let errors = self.unexpected_errors();
        if std::thread::panicking() {
            if let Some(process) = &self.process {
                crate::oracle::note(&process.tail());
            }
            return;
        }
        assert!(
            errors.is_empty(),
            "{} logged {} errors that the test does not allow, the first: {}",
            self.name(),
            errors.len(),
            errors.first().map_or("", String::as_str),
        );
        let log = self.log();
        let told = self.secrets.iter().filter(|(_, secret)| log.contains(secret.as_str()));
        let told: Vec<&str> = told.map(|(variable, _)| variable.as_str()).collect();
        assert!(told.is_empty(), "{} logged what is secret in {}", self.name(), told.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::{is_error, secrets_in};

    #[test]
    fn errors_and_panics_are_seen_in_a_log() {
        assert!(is_error(r#"{"level":"ERROR","message":"lease lost"}"#));
        assert!(is_error("thread 'shard-1' (4711) panicked at session/src/state.rs:1:1:"));
        assert!(!is_error(r#"{"level":"INFO","message":"an ERROR in quotes"}"#));
    }

    #[test]
    fn secrets_are_found_in_variables_lists_and_addresses() {
        assert_eq!(
            secrets_in("A_SESSION_SECRET", "first-key,second-key"),
            ["first-key", "second-key"]
        );
        assert_eq!(secrets_in("A_TOKEN", "short"), [""; 0]);
        assert_eq!(
            secrets_in("A_URL", "redis://app:app-password@h:1,redis://h:2"),
            ["app-password"]
        );
        assert_eq!(secrets_in("A_URL", "postgres://postgres@127.0.0.1:1/d?x=y:z@w"), [""; 0]);
        assert_eq!(secrets_in("A_NAME", "no-secret-at-all"), [""; 0]);
    }
}
