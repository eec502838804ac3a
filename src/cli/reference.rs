//! The list of all commands in `docs/cli.md`, made from the command line itself so that the two cannot differ.

use clap::{Arg, Command};

use super::command;
use super::failure::{Failure, STATUSES};
use super::terminal::Terminal;
use super::verbs;

/// What stands before the generated part of the page.
#[cfg(test)]
const MARK: &str = "<!-- From here on `understudy reference` wrote it; a test compares. -->\n";

/// Prints the generated part of the page.
pub(super) fn print(terminal: &mut Terminal) -> Result<u8, Failure> {
    terminal.write(markdown().as_bytes())?;
    terminal.flush()?;
    Ok(0)
}

fn markdown() -> String {
    let mut root = command::root();
    root.build();
    let mut text = String::from("\n## Exit status\n\n| status | meaning |\n|---|---|\n");
    for (status, meaning) in STATUSES {
        text.push_str(&format!("| {status} | {meaning} |\n"));
    }
    text.push_str("\n## Options of every command\n\n");
    let common = root.get_arguments().filter(|argument| argument.is_global_set());
    common.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")).for_each(
        |argument| {
            text.push_str(&option_line(argument));
        },
    );
    text.push_str("\n## Commands\n");
    commands("", &root, &mut text);
    text
}

/// Writes what can be typed below a command, in the order of the help.
fn commands(before: &str, command: &Command, text: &mut String) {
    for below in
        command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        let words = format!("{before}{}", below.get_name());
        if !below.is_subcommand_required_set() {
            one(&words, below, text);
        }
        commands(&format!("{words} "), below, text);
    }
}

fn one(words: &str, command: &Command, text: &mut String) {
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !argument.is_hide_set())
        .filter(|argument| argument.get_id() != "help")
        .collect();
    let mut line = format!("understudy {words}");
    for argument in
        own.iter().filter(|argument| argument.is_positional() || argument.is_required_set())
    {
        line.push(' ');
        line.push_str(&typed(argument));
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    text.push_str(&format!("\n### `{line}`\n\n{about}.\n"));
    if let Some(verb) = verbs::all().find(|verb| verb.words == words) {
        text.push_str(&format!("`{} {}`\n", verb.method, verb.path));
    }
    if !own.is_empty() {
        text.push('\n');
        own.iter().for_each(|argument| text.push_str(&option_line(argument)));
    }
}

fn option_line(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let mut line = format!("- `{}`: {help}", typed(argument));
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        line.push_str(&format!(" ({})", values.join(", ")));
    }
    line + "\n"
}

/// How an argument is typed, `--why TEXT`.
fn typed(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let word = names.first().map(ToString::to_string).unwrap_or_default();
    match (argument.get_long(), argument.get_action().takes_values()) {
        (Some(long), true) => format!("--{long} {word}"),
        (Some(long), false) => format!("--{long}"),
        (None, _) => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");

    #[test]
    fn the_page_has_every_command_as_the_program_knows_it() {
        let page = std::fs::read_to_string(PAGE).expect("docs/cli.md is there");
        let (_, generated) = page.split_once(MARK).expect("the page has the mark");
        let expected = markdown();
        for (number, (written, right)) in generated.lines().zip(expected.lines()).enumerate() {
            assert_eq!(
                written, right,
                "line {number} behind the mark: write what `understudy reference` prints"
            );
        }
        assert!(generated == expected, "write what `understudy reference` prints behind the mark");
    }

    #[test]
    fn every_verb_is_in_the_list() {
        let text = markdown();
        for verb in verbs::all() {
            assert!(text.contains(&format!("### `understudy {}", verb.words)), "{}", verb.words);
        }
    }
}
