//! The ready-made node: serves a page or a static web app, and sessions over HTTP for front ends without Rust code.

use std::process::ExitCode;

const USAGE: &str = "\
understudy: one node of a web application that runs on many

usage: understudy [serve]        run a node (the default)
       understudy --version      print the version
       understudy --help         print this

Every option is an environment variable; docs/configuration.md lists them.
";

/// Exit status for a wrong command line (EX_USAGE of sysexits.h).
const EX_USAGE: u8 = 64;

#[expect(clippy::print_stdout, reason = "a command line answers on standard output")]
fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["serve"] => understudy::readymade::main(),
        ["--version" | "-V"] => {
            println!("understudy {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        [unknown, ..] => {
            eprint!("understudy: `{}` is no command\n\n{USAGE}", unknown.escape_default());
            ExitCode::from(EX_USAGE)
        }
    }
}
