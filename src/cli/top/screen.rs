//! The terminal while it belongs to `top`: another screen, keys without Enter, and everything as it was at the end,
//! however that comes.

use std::io::Write as _;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
                drop(tcsetattr(std::io::stdin(), OptionalActions::Flush, before));
            }
            say(LEAVE);
        }
    }

    /// Gives the terminal back, stops this process as Ctrl-Z does, and takes the terminal again when it goes on.
    pub(super) fn suspend(&mut self) {
        self.leave();
        drop(rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP));
        self.on();
    }

    fn on(&mut self) {
        if let Some(before) = &self.before {
            let mut keys = before.clone();
            // Ctrl-C and Ctrl-Z stay signals.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            drop(tcsetattr(std::io::stdin(), OptionalActions::Flush, &keys));
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
    /// `None` when no keys can come.
    keys: Option<AsyncFd<std::io::Stdin>>,
    interrupt: Signal,
    terminate: Signal,
    resize: Signal,
    suspend: Signal,
}

impl Events {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            keys: AsyncFd::with_interest(std::io::stdin(), Interest::READABLE).ok(),
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
            key = pressed(&self.keys) => match key {
                Some(b'q' | b'Q' | 0x1b | 0x04) => Happening::End,
                Some(_) => Happening::Again,
                None => {
                    // The other end of the terminal is gone.
                    self.keys = None;
                    Happening::End
                }
            },
        }
    }
}

/// The next key; `None` when there will be none.
async fn pressed(keys: &Option<AsyncFd<std::io::Stdin>>) -> Option<u8> {
    let Some(keys) = keys else { return std::future::pending().await };
    let Ok(mut ready) = keys.readable().await else { return None };
    // What is there is read at once, so this does not wait although the terminal is a blocking one.
    let mut bytes = [0; 64];
    let read = rustix::io::read(keys.get_ref(), &mut bytes);
    ready.clear_ready();
    match read {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(bytes[0]),
    }
}
