//! PostgreSQL with a cluster directory of its own.
//!
//! `initdb` takes half a second, so it runs once per test process and its result is copied. Writes
//! are not forced to disk: a kill of the server loses nothing (the page cache lives on), and a power
//! cut of the machine ends the test anyway.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell};

use super::commands::{find_program, run};
use super::ports::free_port;
use super::process::{Launch, Process, Signal, spawn};
use super::scratch::Scratch;
use super::sql::{Sql, Unanswered};
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(30);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const PORT_ATTEMPTS: u32 = 5;
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=300",
    "shared_buffers=32MB",
    "logging_collector=off",
];

/// Removed by the janitor with everything else of the process: a static is never dropped.
static TEMPLATE: OnceCell<Scratch> = OnceCell::const_new();

/// A running PostgreSQL; ended on drop.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    port: u16,
    folder: Scratch,
    /// Connections that nobody asks at the moment. Held for moments: who finds it taken makes do without.
    idle: Mutex<Vec<Sql>>,
}

impl Postgres {
    /// Starts an empty server: database `postgres`, user `postgres`, no password.
    pub async fn start() -> Self {
        let template = TEMPLATE.get_or_init(create_template).await;
        for _ in 0..PORT_ATTEMPTS {
            let folder = owned_folder("postgres");
            let copy = template.join("data");
            as_owner("cp", &["-a".as_ref(), copy.as_ref(), folder.join("data").as_ref()]);
            let mut postgres =
                Self { process: None, port: free_port(), folder, idle: Mutex::default() };
            if postgres.try_start().await {
                return postgres;
            }
        }
        panic!("PostgreSQL did not start on any of {PORT_ATTEMPTS} ports")
    }

    /// The address as a node takes it in `UNDERSTUDY_DATABASE_URL`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as `pg_ctl stop -m immediate` does: clients see their connections break.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills the server process; its children notice and follow.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Ends it if it runs, starts it again on its port with its data, and waits until it answers.
    pub async fn restart(&mut self) {
        self.stop();
        // After a kill the children of the old server need a moment to let go of its memory.
        for _ in 0..50 {
            if self.try_start().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("PostgreSQL did not come back on its port {}", self.port)
    }

    /// Stops it where it is, with all its connections.
    pub fn pause(&self) {
        self.process.iter().for_each(Process::pause);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.iter().for_each(Process::resume);
    }

    /// Runs SQL and returns the rows, columns separated by `|`. Several statements are one transaction.
    pub fn query(&self, sql: &str) -> String {
        let kept = self.idle.try_lock().ok().and_then(|mut idle| idle.pop());
        let was_kept = kept.is_some();
        let connection = kept.unwrap_or_else(|| Sql::connect(&self.url()));
        match self.ask(connection, sql) {
            // It was broken before it was asked: the server was started anew, or a test ended its connections.
            Err(Unanswered::Broken(_)) if was_kept => self.ask(Sql::connect(&self.url()), sql),
            answer => answer,
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn ask(&self, mut connection: Sql, sql: &str) -> Result<String, Unanswered> {
        let answer = connection.ask(sql, COMMAND_LIMIT);
        if matches!(answer, Ok(_) | Err(Unanswered::Refused(_)))
            && let Ok(mut idle) = self.idle.try_lock()
        {
            idle.push(connection);
        }
        answer
    }

    /// False when it exited at once: the port was taken, or an old server is not quite gone.
    async fn try_start(&mut self) -> bool {
        let data = self.folder.join("data");
        let mut arguments = vec!["-D".into(), data.clone().into()];
        arguments.extend(["-p".into(), self.port.to_string().into()]);
        for setting in SETTINGS {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let mut process = spawn(Launch {
            name: "postgres".to_owned(),
            program: find_program("postgres"),
            arguments,
            environment: Vec::new(),
            directory: self.folder.path().to_owned(),
            log: self.folder.join("log"),
            user: owner().map(str::to_owned),
            farewell: Signal::QUIT,
        });
        let id = process.id().to_string();
        let (alive, _) = wait::until_some("PostgreSQL is ready", START_LIMIT, async || {
            if process.exited().is_some() {
                return Some(false);
            }
            is_ready(&data, &id).then_some(true)
        })
        .await;
        self.process = alive.then_some(process);
        alive
    }
}

/// The server writes its state into the eighth line of its pid file.
fn is_ready(data: &Path, id: &str) -> bool {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = file.lines();
    lines.next() == Some(id) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

async fn create_template() -> Scratch {
    let folder = owned_folder("postgres-template");
    let initdb = find_program("initdb");
    let data = folder.join("data");
    let fixed = "-A trust -U postgres --no-sync -E UTF8 --locale=C";
    let mut arguments: Vec<&Path> = vec!["-D".as_ref(), &data];
    arguments.extend(fixed.split(' ').map(Path::new));
    as_owner(&initdb.display().to_string(), &arguments);
    folder
}

/// PostgreSQL refuses to run as root; then it runs as the user of the system package.
fn owner() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("postgres")
}

fn owned_folder(label: &str) -> Scratch {
    let folder = Scratch::new(label);
    if let Some(owner) = owner() {
        let mut chown = Command::new("chown");
        chown.arg(owner).arg(folder.path());
        run(&mut chown, COMMAND_LIMIT)
            .unwrap_or_else(|error| panic!("the user {owner} of the PostgreSQL package: {error}"));
    }
    folder
}

fn as_owner(program: &str, arguments: &[&Path]) {
    let mut command = match owner() {
        Some(owner) => {
            let mut command = Command::new(find_program("setpriv"));
            command.arg(format!("--reuid={owner}")).arg(format!("--regid={owner}"));
            command.args(["--init-groups", "--", program]);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments).current_dir("/");
    run(&mut command, COMMAND_LIMIT).unwrap_or_else(|error| panic!("{program}: {error}"));
}
