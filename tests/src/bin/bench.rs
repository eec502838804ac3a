//! `make bench`: measures what sessions, files and jobs cost and prints the tables of docs/performance.md.
//!
//! Standard output gets the tables, standard error the measurements as they are made.
#![expect(clippy::print_stdout, reason = "the tables are what the program is for")]

use std::process::ExitCode;
use std::time::Duration;

use understudy_tests::bench::{
    Options, Stage, cache, files, jobs, multitude, pages, run, settings,
};

const USAGE: &str = "\
usage: bench [--rounds N] [--seconds S] [--threads N] [--sessions N]
             [--only PART-OF-A-NAME|settings|pages|cache|multitude|files|jobs] [--env NAME=VALUE]...";

fn options(arguments: &[String]) -> Option<Options> {
    let mut options = Options::default();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--rounds" => options.rounds = value.parse().ok()?,
            "--seconds" => {
                options.measured = Duration::try_from_secs_f64(value.parse().ok()?).ok()?
            }
            "--threads" => options.threads = value.parse().ok()?,
            "--sessions" => options.sessions = value.parse().ok()?,
            "--env" => {
                let (name, value) = value.split_once('=')?;
                options.environment.push((name.to_owned(), value.to_owned()));
            }
            "--only" => options.only = Some(value.clone()),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = options(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(measure(&options)),
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure(options: &Options) {
    if options.wants_cases() {
        let mut stage = Stage::start(&options.environment).await;
        let report = run(options, &mut stage, |line| eprintln!("{line}")).await;
        // Before the stage is dropped, which panics when a node has logged an error.
        println!("{report}");
    }
    if options.wants_part("settings") {
        println!("{}", settings::measure(options, |line| eprintln!("{line}")).await);
    }
    if options.wants_part("pages") {
        println!("{}", pages::measure(options, |line| eprintln!("{line}")).await);
    }
    if options.wants_part("cache") {
        println!("{}", cache::measure(options, |line| eprintln!("{line}")).await);
    }
    if options.wants_part("multitude") && options.sessions > 0 {
        println!("{}", multitude::measure(options, |line| eprintln!("{line}")).await);
    }
    if options.wants_part("files") {
        println!("{}", files::measure(options, |line| eprintln!("{line}")).await);
    }
    if jobs::is_wanted(options) {
        println!("{}", jobs::measure(options, |line| eprintln!("{line}")).await);
    }
}
