//! What a node is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Node;
use crate::servers::free_port;

/// Which binary a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The ready-made node.
    Understudy,
    /// The fixture application, written only against the public API.
    Fixture,
    /// The fixture of an earlier version, for the node's first life; it is of this version when it is started again. The file
    /// that `UNDERSTUDY_TESTS_OLDER` names (`make upgrade`), else this version in both lives.
    Older,
    /// The shop of docs/porting-from-actix-session.md, after the port.
    Shop,
}

impl Program {
    /// The binary that cargo has built for the same profile as this test.
    pub fn path(self) -> PathBuf {
        binary(match self {
            Self::Understudy => "understudy",
            Self::Fixture => "fixture",
            Self::Shop => "shop_after",
            Self::Older => match std::env::var_os("UNDERSTUDY_TESTS_OLDER") {
                Some(file) => return file.into(),
                None => "fixture",
            },
        })
    }
}

/// A binary that cargo has built for the same profile as this test.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its own file");
    // Tests are in target/<profile>/deps, binaries and benchmarks in target/<profile>.
    let folders = own.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("no binary {name} beside {}: run `cargo build --workspace --bins`", own.display())
    })
}

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    pub(super) name: String,
    pub(super) program: Program,
    pub(super) public_port: u16,
    pub(super) admin_port: u16,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) allowed_errors: Vec<String>,
}

impl NodeSpec {
    /// A ready-made node in embedded mode, on free ports, that logs JSON and names itself in answers.
    pub fn new(name: &str) -> Self {
        let (public_port, admin_port) = (free_port(), free_port());
        let spec = Self {
            name: name.to_owned(),
            program: Program::Understudy,
            public_port,
            admin_port,
            environment: BTreeMap::new(),
            allowed_errors: Vec::new(),
        };
        spec.env("UNDERSTUDY_NODE_ID", name)
            .env("UNDERSTUDY_HTTP_BIND", &format!("127.0.0.1:{public_port}"))
            .env("UNDERSTUDY_ADMIN_BIND", &format!("127.0.0.1:{admin_port}"))
            .env("UNDERSTUDY_HTTP_WORKERS", "2")
            .env("UNDERSTUDY_HTTP_EXPOSE_NODE", "true")
            .env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "1000")
            .env("UNDERSTUDY_LOG_FORMAT", "json")
            .env("RUST_BACKTRACE", "1")
    }

    /// Runs another binary.
    #[must_use]
    pub fn program(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// Sets a variable. A node sees no variable of the test process but `PATH`, `HOME` and `TMPDIR`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Leaves a variable to the node's default.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Lets the node log errors that contain this text; any other fails the test.
    #[must_use]
    pub fn allow_error(mut self, text: &str) -> Self {
        self.allowed_errors.push(text.to_owned());
        self
    }

    /// The port of the public listener.
    pub fn public_port(&self) -> u16 {
        self.public_port
    }

    /// Starts the process; [`Node::ready`] waits until it serves.
    pub fn start(self) -> Node {
        Node::start(self)
    }
}
