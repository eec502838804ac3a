//! A browser that a test steers: Chromium's own protocol over pipes, each message one JSON value and a zero byte. What the
//! page complains about is kept.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use understudy_tests::servers::Scratch;

/// How long anything may take on a machine that does much else.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Chromium hears on descriptor 3 and speaks on 4; here these are the pipes of its input and output.
const ON_PIPES: &str = r#"exec "$@" --remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// Chromium; without one these tests fail, since nobody would have looked at the pages.
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
        .expect("chromium is installed: run .ci/packages.sh (`make test` does), or install it")
}

/// A running browser without a window, with one tab. It ends when it is dropped, and when the test does: its pipes are
/// closed then.
pub(super) struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    number: u64,
    tab: Option<String>,
    loaded: u64,
    complaints: Vec<String>,
    _profile: Scratch,
}

impl Browser {
    /// Starts it with an empty profile.
    pub(super) fn open() -> Self {
        let profile = Scratch::new("chromium");
        let mut process = Command::new("sh")
            .args(["-c", ON_PIPES, "sh"])
            .arg(chromium())
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--no-first-run", "--hide-scrollbars"])
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
        let mut browser = Self {
            process,
            commands,
            messages,
            number: 0,
            tab: None,
            loaded: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        browser.open_tab();
        browser
    }

    fn open_tab(&mut self) {
        let opened = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": opened["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach);
        self.tab = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(domain, &json!({}));
        }
    }

    /// Looks as a window of this size does, with the colours that the system prefers.
    pub(super) fn look_as(&mut self, (width, height): (u32, u32), colours: &str) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let prefers = json!([{ "name": "prefers-color-scheme", "value": colours }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": prefers }));
    }

    /// Goes to an address and waits until all of it is there.
    pub(super) fn visit(&mut self, url: &str) {
        let before = self.loaded;
        let told = self.call("Page.navigate", &json!({ "url": url }));
        assert!(told.get("errorText").is_none(), "{url}: {told}");
        self.wait_loaded(before);
    }

    /// Does something that leads to another page, and waits until that is there.
    pub(super) fn follow(&mut self, script: &str) {
        let before = self.loaded;
        self.run(script);
        self.wait_loaded(before);
    }

    fn wait_loaded(&mut self, before: u64) {
        while self.loaded == before {
            let message = self.messages.recv_timeout(LIMIT).expect("the page is loaded");
            self.note(&message);
        }
    }

    /// Runs a script in the page; gives its value, once it is there when it is a promise.
    pub(super) fn run(&mut self, script: &str) -> Value {
        let asked = json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let done = self.call("Runtime.evaluate", &asked);
        assert!(done.get("exceptionDetails").is_none(), "{script}: {done}");
        done["result"]["value"].clone()
    }

    /// The same, as text.
    pub(super) fn text(&mut self, script: &str) -> String {
        let value = self.run(script);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Presses a key, as somebody does who looks at the page.
    pub(super) fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            if key == "Escape" {
                event["windowsVirtualKeyCode"] = json!(27);
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Runs no script of pages any more.
    pub(super) fn without_scripts(&mut self) {
        self.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// Writes into the field of this name, key by key.
    pub(super) fn fill(&mut self, name: &str, text: &str) {
        let document = self.call("DOM.getDocument", &json!({}));
        let wanted =
            json!({ "nodeId": document["root"]["nodeId"], "selector": format!("[name={name}]") });
        let field = self.call("DOM.querySelector", &wanted);
        self.call("DOM.focus", &json!({ "nodeId": field["nodeId"] }));
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Presses Enter in the field that has the focus, and waits for the page after it.
    pub(super) fn submit(&mut self) {
        let before = self.loaded;
        let enter =
            json!({ "type": "keyDown", "key": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
        self.call("Input.dispatchKeyEvent", &enter);
        self.wait_loaded(before);
    }

    /// Takes a picture of the whole page.
    pub(super) fn picture(&mut self, file: &Path) {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let taken = self.call("Page.captureScreenshot", &asked);
        let data = taken["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(file, bytes).expect("the folder is there");
    }

    /// What the pages have complained about since this was asked last: errors of scripts, of the policy, of loading.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        // Whatever was complained about before has arrived when this is answered.
        self.run("0");
        std::mem::take(&mut self.complaints)
    }

    /// Sends a command and waits for its answer.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.number += 1;
        let mut command = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(tab) = &self.tab {
            command["sessionId"] = json!(tab);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser runs");
        loop {
            let mut message = self.messages.recv_timeout(LIMIT).expect("the browser answers");
            if message["id"] == self.number {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let told = &event["params"];
        match event["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded += 1,
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(told["exceptionDetails"].to_string());
            }
            Some("Runtime.consoleAPICalled") if told["type"] == "error" => {
                self.complaints.push(told["args"].to_string());
            }
            Some("Log.entryAdded") if told["entry"]["level"] == "error" => {
                self.complaints.push(format!("{} {}", told["entry"]["text"], told["entry"]["url"]));
            }
            Some(_) | None => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
