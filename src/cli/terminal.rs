//! What surrounds a command: its variables, where it writes, whether a person sits there.
//!
//! Everything a command learns of its process comes from here, so that a test can put it somewhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, IsTerminal as _, Read as _, Write};

use understudy_runtime::clock::{SharedClock, SystemClock};

use super::failure::Failure;
use super::harmless::Harmless;
use super::paper::{Paper, Style, clean};

/// Where a command reads and writes.
pub(super) struct Terminal {
    out: Box<dyn Write>,
    complaints: Box<dyn Write>,
    input: Box<dyn BufRead>,
    pub(super) around: Surroundings,
    /// What was passed on to a person, as far as it is not yet a whole character.
    passed: Harmless,
}

/// What a command knows of the process that it is.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Those that are UTF-8.
    pub(super) variables: BTreeMap<String, String>,
    /// Whether a person can be asked.
    pub(super) asks: bool,
    /// Whether a person reads the answer.
    pub(super) is_read: bool,
    /// Whether a person reads the complaints, and sees progress.
    pub(super) is_watched: bool,
    /// Columns and lines of the terminal, if the output is one.
    pub(super) size: Option<(usize, usize)>,
    pub(super) clock: SharedClock,
}

impl Surroundings {
    fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let (out, complaints) = (std::io::stdout(), std::io::stderr());
        Self {
            variables: variables.collect(),
            asks: std::io::stdin().is_terminal() && complaints.is_terminal(),
            is_read: out.is_terminal(),
            is_watched: complaints.is_terminal(),
            size: terminal_size(),
            clock: SystemClock::shared(),
        }
    }

    /// A variable; an empty one counts as not set, as for a node.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// The time of this machine, ms since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.wall_ms()).unwrap_or(i64::MAX)
    }

    fn has_colours(&self, seen: bool) -> bool {
        let dumb = self.variable("TERM").is_some_and(|kind| kind == "dumb");
        seen && !dumb && self.variable("NO_COLOR").is_none()
    }

    /// Whether the answer may have colours.
    pub(super) fn colours(&self) -> bool {
        self.has_colours(self.is_read)
    }
}

/// Columns and lines of the terminal on the standard output.
pub(super) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    let size = (usize::from(size.ws_col), usize::from(size.ws_row));
    (size.0 > 0 && size.1 > 0).then_some(size)
}

impl Terminal {
    /// That of this process.
    pub(super) fn of_process() -> Self {
        Self {
            out: Box::new(std::io::BufWriter::new(std::io::stdout())),
            complaints: Box::new(std::io::stderr()),
            input: Box::new(std::io::BufReader::new(std::io::stdin())),
            around: Surroundings::of_process(),
            passed: Harmless::default(),
        }
    }

    /// Writes a part of the answer; the other side sees it at once, or at the latest at the end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Passes on a part of what the cluster answered: as it came, unless a person reads it, to whose terminal it must not
    /// speak.
    pub(super) fn pass_on(&mut self, part: &[u8]) -> Result<(), Failure> {
        if !self.around.is_read {
            return self.write(part);
        }
        let shown = self.passed.take(part);
        self.write(shown.as_bytes())
    }

    /// Sends off what was written.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let rest = self.passed.end();
        self.write(rest.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Writes a page for people.
    pub(super) fn page(&mut self, fill: impl FnOnce(&mut Paper<'_>)) -> Result<(), Failure> {
        let around = &self.around;
        let width = around.size.map(|(columns, _)| columns);
        let mut text = String::new();
        fill(&mut Paper::new(&mut text, around.now_ms(), around.colours(), width));
        self.write(text.as_bytes())?;
        self.flush()
    }

    /// Says something that is no part of the answer. That it cannot be said is nobody's business.
    pub(super) fn complain(&mut self, text: &str) {
        let lines = text.lines().map(clean).collect::<Vec<_>>().join("\n");
        drop(writeln!(self.complaints, "{lines}"));
    }

    /// Says something in passing.
    pub(super) fn mention(&mut self, text: &str) {
        let colours = self.around.has_colours(self.around.is_watched);
        drop(writeln!(self.complaints, "{}", Style::Dim.paint(&clean(text), colours)));
    }

    /// Writes to where complaints go, as it is: what moves the cursor is made here and not in the cluster.
    pub(super) fn overwrite(&mut self, text: &str) {
        drop(self.complaints.write_all(text.as_bytes()));
        drop(self.complaints.flush());
    }

    /// Asks a person; anything but yes is no.
    pub(super) fn agrees(&mut self, question: &str) -> bool {
        drop(write!(self.complaints, "{} [y/N] ", clean(question)));
        drop(self.complaints.flush());
        let mut answer = String::new();
        let read = self.input.by_ref().take(1_000).read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Reads what is sent to the standard input.
    pub(super) fn read_all(&mut self, most: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;

    use super::*;

    /// Bytes that a test can look at while something writes them.
    #[derive(Debug, Clone, Default)]
    pub(in super::super) struct Seen(Rc<RefCell<Vec<u8>>>);

    impl Seen {
        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe whose reader has gone.
    #[derive(Debug)]
    pub(in super::super) struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    impl Surroundings {
        /// Nobody looks on, and no variable is set.
        pub(in super::super) fn for_test() -> Self {
            Self {
                variables: BTreeMap::new(),
                asks: false,
                is_read: false,
                is_watched: false,
                size: None,
                clock: SystemClock::shared(),
            }
        }
    }

    impl Terminal {
        /// A terminal with this input; what is written can be seen.
        pub(in super::super) fn for_test(
            around: Surroundings,
            input: &'static str,
        ) -> (Self, Seen, Seen) {
            let (out, complaints) = (Seen::default(), Seen::default());
            let terminal = Self {
                out: Box::new(out.clone()),
                complaints: Box::new(complaints.clone()),
                input: Box::new(input.as_bytes()),
                around,
                passed: Harmless::default(),
            };
            (terminal, out, complaints)
        }

        /// The same, and nobody reads what it writes.
        pub(in super::super) fn unread(around: Surroundings) -> Self {
            let (terminal, _, _) = Self::for_test(around, "");
            Self { out: Box::new(Gone), ..terminal }
        }
    }

    #[test]
    fn colours_are_for_people_who_did_not_say_no() {
        let mut around = Surroundings::for_test();
        assert!(!around.colours());
        around.is_read = true;
        assert!(around.colours());
        around.variables.insert("NO_COLOR".to_owned(), String::new());
        assert!(around.colours(), "an empty one counts as not set: no-color.org");
        around.variables.insert("NO_COLOR".to_owned(), "1".to_owned());
        assert!(!around.colours());
    }

    #[test]
    fn only_yes_is_yes() {
        for (input, agreed) in
            [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("", false)]
        {
            let (mut terminal, _, complaints) = Terminal::for_test(Surroundings::for_test(), input);
            assert_eq!(terminal.agrees("Really?"), agreed, "{input:?}");
            assert_eq!(complaints.text(), "Really? [y/N] ");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let mut terminal = Terminal::unread(Surroundings::for_test());
        assert_eq!(terminal.write(b"x").unwrap_err().status(), 0);
    }
}
