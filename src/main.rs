//! The program: runs the ready-made node, which serves a page or a static web app and sessions over HTTP for front ends
//! without Rust code, and operates a cluster of any nodes.

use std::process::ExitCode;

fn main() -> ExitCode {
    understudy::cli::main()
}
