//! A browser that a test steers: Chromium's own protocol over pipes, each message one JSON value and a zero byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::servers::Scratch;

const LIMIT: Duration = Duration::from_secs(60);
/// Chromium hears on descriptor 3 and speaks on 4; here these are the pipes of its input and output.
const ON_PIPES: &str = r#"exec "$@" --remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// A running browser without a window. It ends when it is dropped, and when the test does: its pipes are closed then.
pub(super) struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    number: u64,
    /// The tab that is looked at.
    tab: Option<String>,
    _profile: Scratch,
}

impl Browser {
    /// Starts it with an empty profile.
    pub(super) fn open(chromium: &Path) -> Self {
        let profile = Scratch::new("chromium");
        let mut process = Command::new("sh")
            .args(["-c", ON_PIPES, "sh"])
            .arg(chromium)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let commands = process.stdin.take().expect("a pipe was asked for");
        let answers = process.stdout.take().expect("a pipe was asked for");
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let value = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { process, commands, messages, number: 0, tab: None, _profile: profile }
    }

    /// Opens an address in a new tab, and looks at that from now on.
    pub(super) fn visit(&mut self, url: &str) {
        self.tab = None; // the browser itself is asked
        let opened = self.call("Target.createTarget", &json!({ "url": url })).expect("a tab");
        let attach = json!({ "targetId": opened["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach).expect("a session");
        self.tab = attached["sessionId"].as_str().map(str::to_owned);
    }

    /// Runs a script in the page, which must not fail.
    pub(super) fn run(&mut self, script: &str) {
        self.evaluate(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    }

    /// The text of the element with this id, as a reader sees it; nothing as long as there is no such element.
    pub(super) fn text(&mut self, id: &str) -> String {
        let script = format!("document.getElementById('{id}')?.textContent");
        let text = self.evaluate(&script).unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    fn evaluate(&mut self, script: &str) -> Result<Value, String> {
        let done = self.call("Runtime.evaluate", &json!({ "expression": script }))?;
        match done.get("exceptionDetails") {
            Some(exception) => Err(exception.to_string()),
            None => Ok(done["result"]["value"].clone()),
        }
    }

    /// Sends a command and waits for its answer; passes over events.
    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.number += 1;
        let mut command = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(tab) = &self.tab {
            command["sessionId"] = json!(tab);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser runs");
        loop {
            let mut answer = self.messages.recv_timeout(LIMIT).expect("the browser answers");
            if answer["id"] == self.number {
                return match answer.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(answer["result"].take()),
                };
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
