//! Commands that need no other node: running one, its options, its health, and what a shell wants to know.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use serde_json::{Value, json};
use understudy_runtime::config::{Config, ConfigErrors, EXIT_CONFIG, registry};

use super::client::{Client, Request};
use super::failure::Failure;
use super::paper::{Cell, Style};
use super::terminal::Terminal;
use super::views;
use crate::readymade::jobs::JobsFile;

/// What docker, which asks often, should wait for at most.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    let check =
        "Reads the environment as a node would, and tells all mistakes; connects to nothing";
    vec![
        ("serve", Command::new("serve").about("Runs a node; the same as no command at all")),
        ("config check", Command::new("check").about(check)),
        (
            "config print",
            Command::new("print")
                .about("Shows the options a node started here would have, secrets as stars"),
        ),
    ]
}

pub(super) fn others() -> Vec<(&'static str, Command)> {
    let shell =
        Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    vec![
        (
            "health",
            Command::new("health").about(
                "Exits with 0 if the node on this machine is ready, else with 1: for HEALTHCHECK",
            ),
        ),
        (
            "completions",
            Command::new("completions")
                .about("Prints what a shell needs to complete commands")
                .arg(shell),
        ),
        (
            "reference",
            Command::new("reference").about("Prints all commands, as in docs/cli.md").hide(true),
        ),
    ]
}

/// Reads the environment and the jobs file as a node does before it starts.
pub(super) fn check(as_json: bool, terminal: &mut Terminal) -> Result<u8, Failure> {
    let checked = config(terminal);
    let (mistakes, warnings) = match &checked {
        Ok(config) => (jobs_file_mistakes(config), config.warnings.as_slice()),
        Err(errors) => (told(errors), &[][..]),
    };
    if as_json {
        let mistakes: Vec<Value> = mistakes
            .iter()
            .map(|(variable, text)| json!({ "variable": variable, "problem": text }))
            .collect();
        let answer =
            json!({ "ok": mistakes.is_empty(), "mistakes": mistakes, "warnings": warnings });
        terminal.write(format!("{answer}\n").as_bytes())?;
        terminal.flush()?;
    } else if mistakes.is_empty() {
        terminal.page(|paper| {
            paper.cells(&[Cell::new("the configuration is right", Style::Good)]);
            for warning in warnings {
                paper.cells(&[Cell::new("warning:", Style::Warn), Cell::plain(warning.as_str())]);
            }
        })?;
    } else {
        // Exactly as the node would.
        for (variable, text) in &mistakes {
            terminal.complain(&format!("{variable}: {text}"));
        }
    }
    Ok(if mistakes.is_empty() { 0 } else { status() })
}

/// Shows the options in effect, in the form in which the API shows them.
pub(super) fn print_options(as_json: bool, terminal: &mut Terminal) -> Result<u8, Failure> {
    let config = match config(terminal) {
        Ok(config) => config,
        Err(errors) => {
            terminal.complain(&errors.to_string());
            return Ok(status());
        }
    };
    let options = config.redacted();
    let sources: serde_json::Map<String, Value> = options
        .iter()
        .map(|(name, value)| (name.clone(), source(name, value, &config, terminal).into()))
        .collect();
    let node_local: Vec<&str> = registry()
        .iter()
        .filter(|variable| variable.node_local)
        .map(|variable| variable.name)
        .collect();
    let answer = json!({
        "node": config.node.id.to_string(),
        "fingerprint": config.fingerprint(),
        "options": options,
        "sources": sources,
        "node_local": node_local,
    });
    if as_json {
        terminal.write(format!("{answer}\n").as_bytes())?;
        terminal.flush()?;
    } else {
        terminal.page(|paper| views::nodes::options(&answer, paper))?;
    }
    Ok(0)
}

fn config(terminal: &Terminal) -> Result<Config, ConfigErrors> {
    Config::from_vars(terminal.around.variables.clone())
}

fn told(errors: &ConfigErrors) -> Vec<(String, String)> {
    errors.iter().map(|(variable, text)| (variable.to_owned(), text.to_owned())).collect()
}

fn status() -> u8 {
    u8::try_from(EXIT_CONFIG).expect("an exit status has 8 bits")
}

/// A broken jobs file keeps a node from starting as a wrong option does.
fn jobs_file_mistakes(config: &Config) -> Vec<(String, String)> {
    let mistake = |variable: &str, text: String| vec![(variable.to_owned(), text)];
    let Ok(zone) = config.jobs.time_zone.parse() else {
        let right = "must be the IANA name of a time zone, such as Europe/Oslo";
        return mistake("UNDERSTUDY_JOBS_TIMEZONE", right.to_owned());
    };
    let Some(path) = &config.jobs.file else { return Vec::new() };
    match JobsFile::load(path, zone) {
        Ok(_) => Vec::new(),
        Err(error) => mistake("UNDERSTUDY_JOBS_FILE", format!("the file is broken:\n{error}")),
    }
}

/// Where the value of an option comes from.
fn source(name: &str, value: &str, config: &Config, terminal: &Terminal) -> &'static str {
    let is_set = |name: &str| terminal.around.variable(name).is_some();
    let file = format!("{name}_FILE");
    // A name of another product that was understood is told in a warning.
    let alias = format!(" is taken for {name};");
    if is_set(name) || config.warnings.iter().any(|warning| warning.contains(&alias)) {
        return "environment";
    }
    if is_set(&file) {
        return "file";
    }
    let in_file = names_in_file(terminal);
    if in_file.contains(name) || in_file.contains(&file) {
        return "file";
    }
    let default =
        registry().iter().find(|variable| variable.name == name).map(|variable| variable.default);
    if default == Some(value) { "default" } else { "derived" }
}

/// The names that the file of variables sets; that it is well-formed was checked when it was read.
fn names_in_file(terminal: &Terminal) -> BTreeSet<String> {
    let path = terminal.around.variable("UNDERSTUDY_ENV_FILE");
    let text = path.and_then(|path| std::fs::read_to_string(path.trim()).ok()).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs =
        lines.filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='));
    pairs
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// Asks whether the node of this environment is ready; the reasons against it are told.
pub(super) async fn health(
    client: &Client,
    as_json: bool,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let asked = tokio::time::timeout(HEALTH_LIMIT.min(client.patience()), async {
        client.send(&Request::get("/health/ready")).await?.bytes().await
    });
    let (bytes, is_ready) = match asked.await {
        Ok(Ok(bytes)) => (bytes, true),
        Ok(Err(Failure::Refused(problem))) => (problem.json(), false),
        Ok(Err(failure)) => {
            terminal.complain(&format!("not ready: {failure}"));
            return Ok(1);
        }
        Err(_) => {
            terminal.complain(&format!("not ready: {} does not answer", client.base()));
            return Ok(1);
        }
    };
    if as_json {
        terminal.pass_on(&bytes)?;
        terminal.pass_on(b"\n")?;
        terminal.flush()?;
    } else {
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        terminal.page(|paper| {
            paper.line(answer["status"].as_str().unwrap_or(if is_ready {
                "ready"
            } else {
                "not ready"
            }));
            for reason in answer["reasons"].as_array().into_iter().flatten() {
                let text = |name: &str| reason[name].as_str().unwrap_or_default();
                paper.line(&format!("  {}: {}", text("code"), text("detail")));
            }
        })?;
    }
    Ok(u8::from(!is_ready))
}

/// Where the health of the node of this environment is told: its admin port, or its public one if it has none.
pub(super) fn own_health_port(terminal: &Terminal) -> Option<String> {
    let config = config(terminal).ok()?;
    let address = config.admin.bind.unwrap_or(config.http.bind);
    let host = match (address.ip().is_unspecified(), address.is_ipv4()) {
        (true, true) => "127.0.0.1".to_owned(),
        (true, false) => "[::1]".to_owned(),
        (false, true) => address.ip().to_string(),
        (false, false) => format!("[{}]", address.ip()),
    };
    Some(format!("http://{host}:{}", address.port()))
}

/// Prints the script for a shell.
pub(super) fn completions(typed: &ArgMatches, terminal: &mut Terminal) -> Result<u8, Failure> {
    let shell = *typed.get_one::<Shell>("shell").expect("clap demands it");
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command::root(), "understudy", &mut script);
    script.flush()?;
    terminal.write(&script)?;
    terminal.flush()?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::terminal::Surroundings;
    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Surroundings { variables: variables.collect(), ..Surroundings::for_test() }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_nothing_is_opened() {
        let wrong = [("UNDERSTUDY_HTTP_BIND", "canary"), ("UNDERSTUDY_REDSI_URL", "redis://r")];
        let (mut terminal, out, complaints) = Terminal::for_test(around(&wrong), "");
        assert_eq!(check(false, &mut terminal).unwrap(), 78);
        let told = complaints.text();
        assert!(
            out.text().is_empty() && told.lines().count() == 2 && !told.contains("canary"),
            "{told}"
        );
        assert!(told.contains("did you mean UNDERSTUDY_REDIS_URL?"), "{told}");
        let (mut terminal, out, _) = Terminal::for_test(around(&wrong), "");
        assert_eq!(check(true, &mut terminal).unwrap(), 78);
        let answer: Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(
            (&answer["ok"], answer["mistakes"].as_array().unwrap().len()),
            (&json!(false), 2)
        );
    }

    #[test]
    fn a_right_configuration_is_told_with_its_warnings() {
        let (mut terminal, out, complaints) = Terminal::for_test(around(&[("PORT", "8081")]), "");
        assert_eq!(check(false, &mut terminal).unwrap(), 0);
        let told = out.text();
        assert!(
            told.starts_with("the configuration is right\nwarning: PORT is taken for"),
            "{told}"
        );
        assert_eq!(complaints.text(), "");
    }

    #[test]
    fn a_broken_jobs_file_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jobs.toml");
        std::fs::write(&file, "[[job]]\nname = 7\n").unwrap();
        let file = file.to_str().unwrap();
        let (mut terminal, _, complaints) =
            Terminal::for_test(around(&[("UNDERSTUDY_JOBS_FILE", file)]), "");
        assert_eq!(check(false, &mut terminal).unwrap(), 78);
        let told = complaints.text();
        assert!(
            told.contains("UNDERSTUDY_JOBS_FILE: the file is broken")
                && told.contains("jobs.toml:2:"),
            "{told}"
        );
    }

    #[test]
    fn options_are_shown_with_their_source_and_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("variables");
        std::fs::write(&file, "# a comment\nexport UNDERSTUDY_LOG_FILTER=debug\n").unwrap();
        let given = [
            ("UNDERSTUDY_ENV_FILE", file.to_str().unwrap()),
            ("UNDERSTUDY_ADMIN_TOKEN", "canary-of-this-test"),
            ("UNDERSTUDY_TOKEN", "canary-of-an-operator"),
            ("UNDERSTUDY_ADMIN_URL", "http://127.0.0.1:9090"),
        ];
        let (mut terminal, out, complaints) = Terminal::for_test(around(&given), "");
        assert_eq!(print_options(true, &mut terminal).unwrap(), 0, "{}", complaints.text());
        assert!(!out.text().contains("canary"), "{}", out.text());
        let answer: Value = serde_json::from_str(&out.text()).unwrap();
        for (name, value, source) in [
            ("UNDERSTUDY_LOG_FILTER", "debug", "file"),
            ("UNDERSTUDY_ADMIN_TOKEN", "******", "environment"),
            ("UNDERSTUDY_HTTP_BIND", "0.0.0.0:8080", "default"),
        ] {
            assert_eq!(
                (&answer["options"][name], &answer["sources"][name]),
                (&json!(value), &json!(source))
            );
        }
        assert_eq!(answer["sources"]["UNDERSTUDY_NODE_ID"], "derived");
        let (mut terminal, out, _) = Terminal::for_test(around(&given), "");
        assert_eq!(print_options(false, &mut terminal).unwrap(), 0);
        assert!(out.text().contains("UNDERSTUDY_LOG_FILTER") && !out.text().contains("canary"));
    }

    #[test]
    fn the_health_of_a_node_is_told_where_its_environment_says() {
        for (variables, url) in [
            (&[][..], "http://127.0.0.1:9090"),
            (&[("UNDERSTUDY_ADMIN_BIND", "127.0.0.1:9191")], "http://127.0.0.1:9191"),
            (&[("UNDERSTUDY_ADMIN_BIND", "off")], "http://127.0.0.1:8080"),
        ] {
            let (terminal, _, _) = Terminal::for_test(around(variables), "");
            assert_eq!(own_health_port(&terminal).as_deref(), Some(url));
        }
        let (terminal, _, _) = Terminal::for_test(around(&[("UNDERSTUDY_HTTP_BIND", "x")]), "");
        assert_eq!(own_health_port(&terminal), None);
    }

    #[test]
    fn every_shell_gets_its_completions() {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let words = ["understudy", "completions", shell];
            let matches = super::super::command::root().try_get_matches_from(words).unwrap();
            let (mut terminal, out, _) = Terminal::for_test(Surroundings::for_test(), "");
            let (_, typed) = matches.subcommand().unwrap();
            assert_eq!(completions(typed, &mut terminal).unwrap(), 0);
            let script = out.text();
            for part in ["safe-to-stop", "token-file"] {
                assert!(script.contains(part), "{shell}: {part}");
            }
        }
    }
}
