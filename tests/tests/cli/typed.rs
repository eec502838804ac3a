//! Typing a command, as a program or a person would.

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use understudy_tests::Program;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) complaints: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        let told = format!("{}{}", self.out, self.complaints);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {told}"))
    }

    /// Demands a status.
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.complaints);
        self
    }
}

/// A command that can be given variables and input.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(Program::Understudy.path());
    command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Types a command and waits for its end.
pub(crate) async fn typed(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = tokio::process::Command::from(command(arguments, variables));
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let status = status.code().expect("no signal ended it");
    Ended { status, out: text(stdout), complaints: text(stderr) }
}
