//! The command line as clap knows it: made from the table of verbs, and of the few commands that are not in it.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Args as _, Command, value_parser};

use super::failure::STATUSES;
use super::verb::{Kind, Manner, Parameter, Verb};
use super::{balancer, files, local, top, verbs};

const TEMPLATE: &str = "{about-with-newline}\nusage: {usage}\n\n{all-args}{after-help}";

/// What is said of commands that only have others below them.
const GROUPS: &[(&str, &str)] = &[
    ("node", "One node: showing it, taking it out of service, restarting it"),
    ("cluster", "All nodes at once"),
    ("config", "The options of nodes"),
    ("diag", "What a node is doing, for those who look for a fault"),
    ("log", "The log of a node"),
    ("leader", "Who leads, and moving the lead"),
    ("job", "One job: showing, changing, starting it"),
    ("run", "One run of a job"),
    ("session", "One session"),
    ("token", "Tokens for the admin port"),
    ("lb", "Configurations for balancers"),
];

/// What can be said with every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Every command")]
pub(super) struct Common {
    /// Admin port of any node [default: UNDERSTUDY_ADMIN_URL, or http://127.0.0.1:9090]
    #[arg(long, value_name = "URL", global = true)]
    pub(super) url: Option<String>,
    /// File with the token [default: UNDERSTUDY_TOKEN, or the file that UNDERSTUDY_TOKEN_FILE names]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) token_file: Option<PathBuf>,
    /// How long a node may take to answer [default: 30s]
    #[arg(long, value_name = "DURATION", global = true)]
    pub(super) timeout: Option<String>,
    /// Print the answer of the API as it is
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Common {
    /// Whether anything of it was said.
    pub(super) fn is_said(&self) -> bool {
        self.url.is_some() || self.token_file.is_some() || self.timeout.is_some() || self.json
    }
}

/// The whole command line.
pub(super) fn root() -> Command {
    let mut commands = local::commands();
    commands.extend(verbs::all().map(entry));
    commands.extend(files::commands());
    commands.extend(top::commands());
    commands.extend(balancer::commands());
    commands.extend(local::others());
    let root = Command::new("understudy")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("understudy [serve]\n       understudy [OPTIONS] <COMMAND>")
        .after_help(after_help())
        .max_term_width(120);
    // The options bring a description of their own.
    let root = Common::augment_args(root)
        .about("Runs a node of a web application that runs on many, and operates them");
    let root = assemble(root, &commands);
    dressed(root)
}

fn after_help() -> String {
    let mut text = "\
Without a command it runs a node. Every option of a node is an environment variable:
docs/configuration.md lists them. docs/cli.md has all commands. The token is never an
argument, where others on the machine could see it.

Exit status:
"
    .to_owned();
    for (status, meaning) in STATUSES {
        text.push_str(&format!("  {status:>3}  {meaning}\n"));
    }
    text
}

/// Sorts commands of one and two words into a tree, in the order in which they come.
fn assemble(root: Command, commands: &[(&'static str, Command)]) -> Command {
    let mut firsts: Vec<&'static str> = Vec::new();
    for (words, _) in commands {
        let first = words.split(' ').next().unwrap_or_default();
        if !firsts.contains(&first) {
            firsts.push(first);
        }
    }
    firsts.into_iter().fold(root, |root, first| root.subcommand(family(first, commands)))
}

/// A command with those below it.
fn family(first: &'static str, commands: &[(&'static str, Command)]) -> Command {
    let own = commands.iter().find(|(words, _)| *words == first);
    let mut below = commands
        .iter()
        .filter(|(words, _)| words.split_once(' ').is_some_and(|(word, _)| word == first))
        .map(|(_, command)| command.clone())
        .peekable();
    let is_leaf = below.peek().is_none();
    let command = match own {
        Some((_, command)) if is_leaf => command.clone(),
        Some((_, command)) => command.clone().args_conflicts_with_subcommands(true),
        None => {
            let about =
                GROUPS.iter().find(|(name, _)| *name == first).map_or("", |(_, about)| *about);
            Command::new(first).about(about).subcommand_required(true).arg_required_else_help(true)
        }
    };
    command.subcommands(below).disable_help_subcommand(true)
}

fn dressed(command: Command) -> Command {
    command.help_template(TEMPLATE).mut_subcommands(dressed)
}

/// The command of a verb.
fn entry(verb: &'static Verb) -> (&'static str, Command) {
    let name = verb.words.rsplit(' ').next().unwrap_or_default();
    let typed = verb.parameters.iter().filter(|parameter| !is_constant(parameter.kind));
    let command = Command::new(name).about(verb.about).args(typed.map(argument));
    let command = if verb.words == "files list" { command.visible_alias("ls") } else { command };
    (verb.words, command.args(extras(verb)))
}

fn is_constant(kind: Kind) -> bool {
    matches!(kind, Kind::Constant(_))
}

fn argument(parameter: &Parameter) -> Arg {
    let argument = Arg::new(parameter.name).required(parameter.required).help(parameter.meaning);
    let argument = match parameter.option {
        "" => argument,
        option => argument.long(option),
    };
    match parameter.kind {
        Kind::Text(word) => argument.value_name(word),
        Kind::Whole | Kind::Count => argument.value_name("NUMBER"),
        Kind::Flag | Kind::Mark(_) => argument.action(ArgAction::SetTrue),
        Kind::Time => argument.value_name("TIME"),
        Kind::Seconds | Kind::Millis => argument.value_name("DURATION"),
        Kind::Json => argument.value_name("JSON"),
        Kind::Word(word, words) => {
            argument.value_name(word).value_parser(PossibleValuesParser::new(words))
        }
        Kind::Constant(_) => argument.hide(true),
    }
}

/// What a verb takes that does not go into its request.
fn extras(verb: &Verb) -> Vec<Arg> {
    let mut extras = Vec::new();
    if !verb.pages.is_empty() {
        extras.push(flag("all", "All pages, not only the first"));
    }
    if !verb.asks.is_empty() {
        extras.push(flag("yes", "Do not ask").short('y'));
    }
    match verb.manner {
        Manner::Plain | Manner::Doctor | Manner::Verify => {}
        Manner::Upload => extras.push(path("File with the content; - for the standard input")),
        Manner::Download => extras.extend([
            path("Where it is written; a folder: under its name; - for the standard output"),
            flag("replace", "Even if there is something already"),
        ]),
        Manner::Events => extras.extend([
            option("only", "TYPES", "Only events of these types, separated by commas"),
            option("count", "NUMBER", "End after so many events"),
        ]),
        Manner::LogTail => extras.push(option("count", "NUMBER", "End after so many lines")),
        Manner::RunLog => extras.extend([
            flag("all", "The whole log"),
            flag("follow", "Go on until the run has ended").short('f'),
        ]),
        Manner::Waits(_) => extras.extend([
            flag("wait", "Wait until it is done, and tell how far it is"),
            option("wait-limit", "DURATION", "Wait for so long at most").requires("wait"),
        ]),
        Manner::Document => {
            extras.push(file("File with the definitions; - for the standard input"))
        }
        Manner::Definition => extras.extend([
            file("File with the definition; - for the standard input"),
            option("name", "JOB", "Name of the job, if the definition does not say it"),
        ]),
        Manner::Schedule => extras.extend([
            option(
                "cron",
                "EXPRESSION",
                "A cron expression of 5 or 6 fields, or @daily and the like",
            ),
            option("time-zone", "ZONE", "Its time zone, such as Europe/Oslo").requires("cron"),
            option("every", "DURATION", "A fixed grid").conflicts_with("cron"),
            option("schedule", "JSON", "A schedule as in a definition")
                .conflicts_with_all(["cron", "every"]),
        ]),
        Manner::Options => {
            extras.push(
                flag("print", "What a node started here would have; asks no node")
                    .conflicts_with("node"),
            );
        }
    }
    extras
}

pub(super) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn option(name: &'static str, word: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(word).help(help)
}

pub(super) fn path(help: &'static str) -> Arg {
    Arg::new("path")
        .value_name("PATH")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

fn file(help: &'static str) -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        root().debug_assert();
    }

    #[test]
    fn every_verb_can_be_typed_and_every_group_says_what_it_is() {
        let root = root();
        for verb in verbs::all() {
            let mut command = &root;
            for word in verb.words.split(' ') {
                command = command.find_subcommand(word).unwrap_or_else(|| panic!("{}", verb.words));
            }
            assert!(command.get_about().is_some(), "{}", verb.words);
        }
        for command in root.get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}", command.get_name());
        }
    }

    #[test]
    fn a_verb_has_what_its_path_needs_and_nothing_else() {
        use super::super::verb::Place;
        for verb in verbs::all().filter(|verb| verb.manner != Manner::Definition) {
            let in_path: Vec<&str> = verb
                .path
                .split(['{', '}'])
                .skip(1)
                .step_by(2)
                .map(|name| name.trim_end_matches('*'))
                .collect();
            let given: Vec<&str> = verb
                .parameters
                .iter()
                .filter(|parameter| parameter.place == Place::Path)
                .map(|parameter| parameter.name)
                .collect();
            assert_eq!(in_path, given, "{}", verb.words);
            assert_eq!(
                verb.pages.is_empty(),
                verb.cursor().is_none() || verb.operation == "runs.log"
            );
        }
    }
}
