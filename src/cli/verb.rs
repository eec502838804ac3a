//! What a verb of the command line is: the request it makes of the admin port, and what is made of the answer.
//!
//! A verb is data. Its arguments, its help, its page in `docs/cli.md`, its request and its table are all made from it, so
//! none of them can forget what another knows.

use super::view::View;

/// One verb: what is typed, and which operation of the admin port it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// The stable name of the operation, `nodes.drain`.
    pub operation: &'static str,
    /// What is typed after `understudy`, `node drain`.
    pub words: &'static str,
    /// The method of the request.
    pub method: &'static str,
    /// The path of the request; `{name}` stands for a parameter, `{name*}` for one that may have slashes.
    pub path: &'static str,
    /// What it does, in one sentence without a full stop.
    pub about: &'static str,
    /// What can be said with it.
    pub parameters: &'static [Parameter],
    /// How the answer is shown to people.
    pub(super) view: View,
    /// The member of the answer that is a list with further pages; empty when there is none.
    pub(super) pages: &'static str,
    /// What it destroys, for the question before it is done; empty for what can be done without asking.
    pub(super) asks: &'static str,
    /// A parameter, and its value without which it destroys nothing; `None` when it always does.
    pub(super) asks_if: Option<(&'static str, &'static str)>,
    /// What is special about it.
    pub(super) manner: Manner,
}

/// What is special about a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nothing: one request, one answer.
    Plain,
    /// The answer has no end: events, one by one.
    Events,
    /// The answer has no end: lines of the log of a node.
    LogTail,
    /// The log of a run, which can be followed.
    RunLog,
    /// The result is told by the exit status.
    Doctor,
    /// What it begins can be waited for.
    Waits(Waits),
    /// The body is a document of its own, read from a file.
    Document,
    /// The body is a definition of a job, which also names it.
    Definition,
    /// The body is a schedule.
    Schedule,
    /// The options in effect, which can also be worked out without a node.
    Options,
    /// The body is the content of a file, which is sent piece by piece.
    Upload,
    /// The answer is the content of a file, which is written piece by piece.
    Download,
    /// The answer is lines that tell how far it is and what was found; the result is told by the exit status.
    Verify,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Until a node can be stopped.
    Drain,
    /// Until a run has ended.
    Run,
    /// Until all nodes were restarted.
    Restart,
}

/// Something that can be said with a verb.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name in the API.
    pub name: &'static str,
    /// Where it goes.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// Its name as an option, without dashes; empty when its position says what it is.
    pub option: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it is for.
    pub meaning: &'static str,
}

/// Where a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Into the path.
    Path,
    /// Into the query.
    Query,
    /// Into the body, as a member.
    Body,
    /// Into a header of this name.
    Header,
}

/// What a parameter is, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text; the word stands for it in the help.
    Text(&'static str),
    /// A whole number.
    Whole,
    /// How many: a whole number from 1 up.
    Count,
    /// There or not there.
    Flag,
    /// There or not there; this is sent when it is.
    Mark(&'static str),
    /// A moment: RFC 3339, ms since 1970, `2h ago`, `in 5min` or `now`.
    Time,
    /// A duration such as `30s`, sent as seconds.
    Seconds,
    /// A duration such as `30s`, sent as milliseconds.
    Millis,
    /// JSON, or `@` and the name of a file with it.
    Json,
    /// One of these; the first word stands for them in the help.
    Word(&'static str, &'static [&'static str]),
    /// Always this; it is not typed.
    Constant(&'static str),
}

impl Verb {
    pub(super) const fn get(
        operation: &'static str,
        words: &'static str,
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new("GET", (operation, words), path, about)
    }

    pub(super) const fn post(
        operation: &'static str,
        words: &'static str,
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new("POST", (operation, words), path, about)
    }

    pub(super) const fn put(
        operation: &'static str,
        words: &'static str,
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new("PUT", (operation, words), path, about)
    }

    pub(super) const fn delete(
        operation: &'static str,
        words: &'static str,
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new("DELETE", (operation, words), path, about)
    }

    const fn new(
        method: &'static str,
        (operation, words): (&'static str, &'static str),
        path: &'static str,
        about: &'static str,
    ) -> Self {
        Self {
            operation,
            words,
            method,
            path,
            about,
            parameters: &[],
            view: View::Object,
            pages: "",
            asks: "",
            asks_if: None,
            manner: Manner::Plain,
        }
    }

    pub(super) const fn with(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    pub(super) const fn view(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    pub(super) const fn pages(mut self, list: &'static str) -> Self {
        self.pages = list;
        self
    }

    pub(super) const fn asks(mut self, what: &'static str) -> Self {
        self.asks = what;
        self
    }

    /// Asks only when a parameter has this value.
    pub(super) const fn asks_if(
        mut self,
        (parameter, value): (&'static str, &'static str),
        what: &'static str,
    ) -> Self {
        self.asks_if = Some((parameter, value));
        self.asks(what)
    }

    pub(super) const fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }

    /// The parameter that leads to the next page.
    pub(super) fn cursor(&self) -> Option<&'static str> {
        let names = self.parameters.iter().filter(|parameter| parameter.place == Place::Query);
        names.map(|parameter| parameter.name).find(|name| matches!(*name, "after" | "before"))
    }
}

impl Parameter {
    /// The next word of the command line, and a part of the path.
    pub(super) const fn path(
        name: &'static str,
        word: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            place: Place::Path,
            kind: Kind::Text(word),
            option: "",
            required: true,
            meaning,
        }
    }

    pub(super) const fn query(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self { name, place: Place::Query, kind, option: name, required: false, meaning }
    }

    pub(super) const fn body(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self { name, place: Place::Body, kind, option: name, required: false, meaning }
    }

    /// Called differently when it is typed.
    pub(super) const fn called(mut self, option: &'static str) -> Self {
        self.option = option;
        self
    }

    /// The next word of the command line.
    pub(super) const fn positional(mut self) -> Self {
        self.option = "";
        self.required = true;
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn header(mut self) -> Self {
        self.place = Place::Header;
        self
    }

    /// How it is typed, for messages: `--why`, or `NAME`.
    pub(super) fn typed(&self) -> String {
        match (self.option, self.kind) {
            ("", Kind::Text(word) | Kind::Word(word, _)) => word.to_owned(),
            ("", _) => self.name.to_uppercase(),
            (option, _) => format!("--{option}"),
        }
    }
}
