//! The terminal while it belongs to `top`: another screen, keys without Enter, and everything as it was at the end,
//! however that comes.

use std::io::{IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

/// Another screen, and no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The other screen; the first one comes back when it is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    /// How the terminal was; `None` when there is nothing to restore.
    before: Option<Termios>,
    is_entered: bool,
}

impl Screen {
    pub(super) fn enter() -> Self {
        let mut screen = Self { before: tcgetattr(std::io::stdin()).ok(), is_entered: false };
        screen.on();
        screen
    }

    /// Gives the terminal back.
    pub(super) fn leave(&mut self) {
        if std::mem::take(&mut self.is_entered) {
            if let Some(before) = &self.before {
                tcsetattr(std::io::stdin(), OptionalActions::Flush, before).ok();
            }
            say(LEAVE);
        }
    }

    /// Gives the terminal back, stops this process as Ctrl-Z does, and takes the terminal again when it goes on.
    pub(super) fn suspend(&mut self) {
        self.leave();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
            .ok();
        self.on();
    }

    fn on(&mut self) {
        if let Some(before) = &self.before {
            let mut keys = before.clone();
            // Ctrl-C and Ctrl-Z stay signals.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(std::io::stdin(), OptionalActions::Flush, &keys).ok();
        }
        say(ENTER);
        self.is_entered = true;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    drop(out.write_all(text.as_bytes()));
    drop(out.flush());
}

/// What can happen while a frame is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    End,
    /// Everything is asked for again, now.
    Again,
    Resize,
    Suspend,
}

/// Keys and signals.
#[derive(Debug)]
pub(super) struct Events {
    /// `None` when nobody can press any.
    keys: Option<Receiver<u8>>,
    interrupt: Signal,
    terminate: Signal,
    resize: Signal,
    suspend: Signal,
}

/// Keys that wait to be looked at; more are typed by a cat.
const MOST_KEYS: usize = 16;

impl Events {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            keys: std::io::stdin().is_terminal().then(keys).transpose()?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            resize: signal(SignalKind::window_change())?,
            suspend: signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Happening {
        tokio::select! {
            _ = self.interrupt.recv() => Happening::End,
            _ = self.terminate.recv() => Happening::End,
            _ = self.resize.recv() => Happening::Resize,
            _ = self.suspend.recv() => Happening::Suspend,
            key = pressed(&mut self.keys) => match key {
                // q, the end of a file, or the end of the terminal itself; not Escape, with which arrows begin.
                Some(b'q' | b'Q' | 0x04) | None => Happening::End,
                Some(_) => Happening::Again,
            },
        }
    }
}

async fn pressed(keys: &mut Option<Receiver<u8>>) -> Option<u8> {
    match keys {
        Some(keys) => keys.recv().await,
        None => std::future::pending().await,
    }
}

/// Keys as they are pressed. A terminal can only be read by waiting, so a thread does; the process does not wait for it.
fn keys() -> std::io::Result<Receiver<u8>> {
    let (sender, keys) = channel(MOST_KEYS);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let mut key = [0; 1];
        while let Ok(1) = std::io::stdin().read(&mut key) {
            if sender.blocking_send(key[0]).is_err() {
                return;
            }
        }
    })?;
    Ok(keys)
}
