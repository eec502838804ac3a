//! `psql` processes that stay, so that a question costs no process of its own.
//!
//! Tests ask the database again and again until something has happened. A process for every question (on Debian
//! `psql` is a script that looks for the real one) took more of the processors than the nodes under test.

use std::fmt;
use std::io::{BufRead, BufReader, PipeReader, Write, pipe};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::commands::find_program;

/// Ends the answer to a question. What follows says whether it failed.
const END: &str = "=the-end-of-the-answer=";

/// One connection to a server, for one question at a time.
#[derive(Debug)]
pub(super) struct Sql {
    child: Child,
    questions: ChildStdin,
    lines: Receiver<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The server said no, with these words; the connection is as good as before.
    Refused(String),
    /// The connection is gone, with these last words.
    Broken(String),
    /// There was none within the limit.
    Late,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Broken(why) => write!(f, "psql has ended: {why}"),
            Self::Late => f.write_str("psql did not answer in time"),
        }
    }
}

impl Sql {
    /// Starts `psql`; that it cannot connect shows at the first question.
    pub(super) fn connect(url: &str) -> Self {
        let (output, both) = pipe().expect("a pipe can be made");
        let mut command = Command::new(find_program("psql"));
        command.args(["-XAtq", url]).stdin(Stdio::piped());
        command.stdout(both.try_clone().expect("a file handle can be doubled")).stderr(both);
        let mut child = command.spawn().expect("psql can be started");
        // The command holds our ends of the pipe: without them the reader sees the end of the process.
        drop(command);
        let questions = child.stdin.take().expect("it was asked for");
        Self { child, questions, lines: lines(output) }
    }

    /// Asks, and returns the rows. Several statements are one transaction, as with `psql -c`.
    pub(super) fn ask(&mut self, sql: &str, limit: Duration) -> Result<String, Unanswered> {
        let sql = sql.trim().trim_end_matches(';');
        let sent = if sql.contains(';') {
            writeln!(self.questions, "BEGIN;{sql}\n;COMMIT;\n\\echo {END} :ERROR")
        } else {
            writeln!(self.questions, "{sql}\n;\n\\echo {END} :ERROR")
        };
        // A process that has ended says why.
        drop(sent.and_then(|()| self.questions.flush()));
        let mut answer = Vec::new();
        loop {
            match self.lines.recv_timeout(limit) {
                Ok(line) => match line.strip_prefix(END) {
                    Some(failed) if failed.trim() == "false" => return Ok(answer.join("\n")),
                    Some(_) => return Err(Unanswered::Refused(answer.join("\n"))),
                    None => answer.push(line),
                },
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Unanswered::Broken(answer.join("\n")));
                }
                Err(RecvTimeoutError::Timeout) => return Err(Unanswered::Late),
            }
        }
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads on a thread of its own, since a read of a pipe knows no limit. It ends with the process.
fn lines(output: PipeReader) -> Receiver<String> {
    let (sender, receiver) = channel();
    let read = move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("psql".to_owned())
        .spawn(read)
        .expect("a thread can be started");
    receiver
}
