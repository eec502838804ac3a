//! The binary at a prompt.

use std::process::{Command, Output, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use understudy_tests::{Node, Program, oracle};

/// Sends a path as it is, which no client would; returns the whole answer.
pub(super) async fn raw_get(node: &Node, path: &str) -> String {
    let address = node.public_url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn understudy(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(Program::Understudy.path());
    command.args(arguments).env_clear().stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_binary_tells_its_version_and_how_to_use_it() {
    let (status, version, complaint) = understudy(&["--version"]);
    assert_eq!((status, complaint.as_str()), (0, ""));
    assert_eq!(version, format!("understudy {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(understudy(&["-V"]).1, version);
    for help in ["--help", "-h", "help"] {
        let (status, usage, complaint) = understudy(&[help]);
        assert_eq!((status, complaint.as_str()), (0, ""), "{help}");
        for part in ["usage: understudy", "--version", "docs/configuration.md"] {
            assert!(usage.contains(part), "{help}: {usage}");
        }
    }
}

#[test]
fn a_command_that_is_none_is_refused_with_the_usage() {
    for arguments in [&["fly"][..], &["--verison"], &["serve", "now"], &["a\u{1b}[31mb\n"]] {
        let (status, output, complaint) = understudy(arguments);
        oracle!("exit status", status, 64);
        assert!(output.is_empty() && complaint.contains("usage: understudy"), "{complaint}");
        assert!(!complaint.contains('\u{1b}'), "a terminal is not spoken to: {complaint:?}");
    }
}
