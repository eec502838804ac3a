//! A PostgreSQL server of its own for a test: a child process with its data in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::config::{DatabaseConfig, DatabaseUrl, MigrateMode};
use crate::secret::Secret;
use std::time::Duration;

/// A running server without durability; it ends, and its data goes, when this is dropped.
#[derive(Debug)]
pub struct TestPostgres {
    programs: PathBuf,
    folder: PathBuf,
    child: Child,
}

impl TestPostgres {
    /// Starts a server that listens on a Unix socket only. Call it on the thread of the test: the server ends with
    /// the thread that starts it.
    ///
    /// # Panics
    /// When it does not start, or is not installed: a test that did nothing must not pass.
    #[must_use]
    pub fn start() -> Self {
        let programs = find_programs().expect(
            "PostgreSQL (initdb, postgres) is installed: run .ci/packages.sh, as `make test` does",
        );
        let name = format!("understudy-pg-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a temporary folder can be made");
        if rustix::process::geteuid().is_root() {
            // The server refuses to run as root.
            let owned = Command::new("chown").arg("postgres:").arg(&folder).status();
            assert!(owned.is_ok_and(|status| status.success()), "the user postgres exists");
        }
        let data = folder.join("data");
        let mut initdb = as_postgres(&programs.join("initdb"));
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ]);
        let made = initdb.arg(&data).output().expect("initdb can be run");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let child = serve(&programs, &folder);
        let server = Self { programs, folder, child };
        server.wait_until_ready();
        server
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        // It looks after the end of its own children, which a SIGKILL would prevent; "immediate shutdown" is SIGQUIT.
        self.signal(rustix::process::Signal::QUIT);
        self.child.wait().ok();
    }

    /// Starts the server again after [`TestPostgres::kill`], with the data it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.child = serve(&self.programs, &self.folder);
        self.wait_until_ready();
    }

    /// Gives the URL of its database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.folder.display())
    }

    /// Gives the options of a small pool on its database.
    #[must_use]
    pub fn config(&self) -> DatabaseConfig {
        test_config(DatabaseUrl::Postgres(Secret::new(self.url())))
    }

    fn wait_until_ready(&self) {
        for _ in 0..200 {
            let mut ask = Command::new(self.programs.join("pg_isready"));
            ask.arg("-q").arg("-h").arg(&self.folder);
            if ask.status().is_ok_and(|status| status.success()) {
                return;
            }
            pause();
        }
        panic!("postgres did not become ready within 10 s");
    }
}

impl TestPostgres {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            rustix::process::kill_process(pid, signal).ok();
        }
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        // SIGINT is its fast shutdown; with nothing to sync it is over in milliseconds.
        self.signal(rustix::process::Signal::INT);
        for _ in 0..40 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            pause();
        }
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn serve(programs: &Path, folder: &Path) -> Child {
    let mut server = as_postgres(&programs.join("postgres"));
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]);
    server.spawn().expect("postgres can be run")
}

/// Gives the options of a small pool on a database.
#[must_use]
pub fn test_config(url: DatabaseUrl) -> DatabaseConfig {
    DatabaseConfig {
        url,
        pool_max: 8,
        pool_min: 0,
        acquire_timeout: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        migrate: MigrateMode::Auto,
    }
}

#[expect(clippy::disallowed_methods, reason = "the test has nothing else to do meanwhile")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Runs a program as another user when this one is root, and lets it end with this thread.
fn as_postgres(program: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        command.args(["--pdeathsig", "SIGINT", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // Its working directory must be one it may enter.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Finds the folder of the newest server: where Debian puts it, then in PATH.
fn find_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}
