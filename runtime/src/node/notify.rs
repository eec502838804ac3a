//! Tells whoever started the process how the node is, if it asks: `READY=1`, `STOPPING=1`, a line of status, signs of life.
//!
//! This is how systemd hears of a service of `Type=notify`: one datagram per message to the socket that `NOTIFY_SOCKET`
//! names (sd_notify(3)). Without that variable nothing is told to anybody. A message that does not arrive is no failure
//! of the node: it is logged once, and the next one is tried all the same.
//!
//! The sign of life (`WATCHDOG=1`) comes from the readiness check: one is sent only if that went round since the one
//! before. It says nothing of what the check found, since no restart of a node brings a database back. A node that
//! starts or stops has no such check; its steps are bounded by limits of their own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

use super::{Lifecycle, Phase};
use crate::supervise::{Stopped, Supervised, spawn};

/// How often it is looked whether there is something to tell, at most.
const LOOK: Duration = Duration::from_secs(1);
/// How long a message may wait for room at the socket.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// The longest line of status.
const LONGEST_STATUS: usize = 200;

/// Begins to tell about this life, if whoever started the process wants to hear of it; ends when the result is dropped.
pub(super) fn begin(lifecycle: &Lifecycle) -> Option<Supervised> {
    let variable = |name: &str| std::env::var_os(name);
    let asked = Asked {
        socket: variable("NOTIFY_SOCKET")?,
        watchdog_usec: variable("WATCHDOG_USEC"),
        watchdog_pid: variable("WATCHDOG_PID"),
    };
    let watchdog = asked.watchdog(std::process::id());
    match address(&asked.socket) {
        Ok(address) => {
            debug!(?watchdog, "the service manager hears of this node");
            Some(start(Notifier { address, watchdog }, lifecycle))
        }
        Err(error) => {
            warn!(%error, "NOTIFY_SOCKET names no socket that could be told anything");
            None
        }
    }
}

fn start(notifier: Notifier, lifecycle: &Lifecycle) -> Supervised {
    let lifecycle = lifecycle.clone();
    spawn("notify", move || {
        let (notifier, lifecycle) = (notifier.clone(), lifecycle.clone());
        async move {
            follow(&notifier, &lifecycle).await;
            Stopped::Asked
        }
    })
}

/// What the service manager put into the environment.
struct Asked {
    socket: OsString,
    watchdog_usec: Option<OsString>,
    watchdog_pid: Option<OsString>,
}

impl Asked {
    /// Returns how long the node may be silent, if that counts for this process.
    fn watchdog(&self, own: u32) -> Option<Duration> {
        let number = |text: &OsString| text.to_str()?.trim().parse::<u64>().ok();
        let of_another =
            self.watchdog_pid.as_ref().is_some_and(|pid| number(pid) != Some(u64::from(own)));
        let micros = self.watchdog_usec.as_ref().and_then(number).filter(|micros| *micros > 0)?;
        (!of_another).then(|| Duration::from_micros(micros))
    }
}

/// Reads the name of a socket: a path, or one in the abstract namespace, which begins with `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    use std::os::unix::ffi::OsStrExt as _;
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', rest @ ..] if !rest.is_empty() => abstract_address(rest),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name"))
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names of sockets"))
}

/// Whom to tell.
#[derive(Debug, Clone)]
struct Notifier {
    address: SocketAddr,
    /// How long the node may be silent.
    watchdog: Option<Duration>,
}

impl Notifier {
    async fn tell(&self, message: &str) -> io::Result<()> {
        // A socket for each message: one that was kept would be of no use after the manager has opened its own anew.
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        timeout(SEND_LIMIT, socket.send(message.as_bytes())).await??;
        Ok(())
    }

    /// How often to look: four times until the node would be taken for dead.
    fn period(&self) -> Duration {
        let quarter = self.watchdog.map_or(LOOK, |watchdog| watchdog / 4);
        quarter.clamp(Duration::from_millis(10), LOOK)
    }
}

/// Tells until the node is gone.
async fn follow(notifier: &Notifier, lifecycle: &Lifecycle) {
    let mut phases: watch::Receiver<Phase> = lifecycle.subscribe();
    let mut ticks = interval(notifier.period());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut story = Story::new(notifier.watchdog);
    let mut failing = false;
    loop {
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
        let Some(message) = story.next(lifecycle, Instant::now()) else { continue };
        let failed = notifier.tell(&message).await.err();
        if let Some(error) = failed.as_ref().filter(|_| !failing) {
            warn!(%error, "the service manager cannot be told how the node is");
        }
        failing = failed.is_some();
    }
}

/// What was told so far.
struct Story {
    phase: Phase,
    status: String,
    watchdog: Option<Duration>,
    /// When the last sign of life was given, and after which round of the readiness check.
    alive: Option<(Instant, u64)>,
}

impl Story {
    fn new(watchdog: Option<Duration>) -> Self {
        Self { phase: Phase::Starting, status: String::new(), watchdog, alive: None }
    }

    /// Returns what is new, if anything.
    fn next(&mut self, lifecycle: &Lifecycle, now: Instant) -> Option<String> {
        let mut lines = Vec::new();
        let phase = lifecycle.phase();
        if self.phase == Phase::Starting && phase > Phase::Starting {
            lines.push("READY=1".to_owned());
        }
        if self.phase < Phase::Draining && phase >= Phase::Draining {
            lines.push("STOPPING=1".to_owned());
        }
        self.phase = phase;
        let status = status(lifecycle);
        if status != self.status {
            lines.push(format!("STATUS={status}"));
            self.status = status;
        }
        if self.is_alive(lifecycle, now) {
            lines.push("WATCHDOG=1".to_owned());
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Whether it is time for a sign of life, and there is life.
    fn is_alive(&mut self, lifecycle: &Lifecycle, now: Instant) -> bool {
        let Some(watchdog) = self.watchdog else { return false };
        let rounds = lifecycle.rounds();
        let due = self.alive.is_none_or(|(last, _)| now.duration_since(last) >= watchdog / 4);
        let went_round = self.alive.is_none_or(|(_, before)| rounds != before);
        let alive = due && (went_round || self.phase != Phase::Running);
        if alive {
            self.alive = Some((now, rounds));
        }
        alive
    }
}

/// Says in one line how the node is: whatever a reason holds, it cannot become a second line, which would be an order.
fn status(lifecycle: &Lifecycle) -> String {
    let reasons = lifecycle.reasons();
    let text = match lifecycle.phase() {
        Phase::Starting => reasons.first().map(|reason| reason.detail.clone()).unwrap_or_default(),
        Phase::Running if reasons.is_empty() => "ready".to_owned(),
        Phase::Running => {
            let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
            format!("not ready: {}", codes.join(", "))
        }
        Phase::Draining => "draining".to_owned(),
        Phase::Stopping => "stopping".to_owned(),
    };
    let plain = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    plain.take(LONGEST_STATUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Reason;

    fn after(began: Instant, ms: u64) -> Instant {
        began + Duration::from_millis(ms)
    }

    #[test]
    fn o5_ready_and_stopping_are_told_once_and_status_when_it_changes() {
        let (life, began) = (Lifecycle::starting(), Instant::now());
        let mut story = Story::new(None);
        life.waits_for("redis", "waiting for Redis\nREADY=1");
        assert_eq!(story.next(&life, began).unwrap(), "STATUS=waiting for Redis READY=1");
        assert_eq!(story.next(&life, began), None);
        life.set_reasons(Vec::new());
        life.enter(Phase::Running);
        assert_eq!(story.next(&life, began).unwrap(), "READY=1\nSTATUS=ready");
        life.set_reasons(vec![Reason::new("database", "refused"), Reason::new("redis", "silent")]);
        assert_eq!(story.next(&life, began).unwrap(), "STATUS=not ready: database, redis");
        assert_eq!(story.next(&life, began), None);
        life.enter(Phase::Draining);
        assert_eq!(story.next(&life, began).unwrap(), "STOPPING=1\nSTATUS=draining");
        life.enter(Phase::Stopping);
        assert_eq!(story.next(&life, began).unwrap(), "STATUS=stopping");
    }

    #[test]
    fn o5_a_node_whose_readiness_check_stands_still_gives_no_sign_of_life() {
        let (life, began) = (Lifecycle::starting(), Instant::now());
        let mut story = Story::new(Some(Duration::from_secs(4)));
        life.set_reasons(Vec::new());
        life.enter(Phase::Running);
        let alive = |story: &mut Story, ms| {
            story.next(&life, after(began, ms)).is_some_and(|told| told.contains("WATCHDOG=1"))
        };
        assert!(alive(&mut story, 0));
        life.set_reasons(Vec::new());
        assert!(!alive(&mut story, 500), "not yet due");
        assert!(alive(&mut story, 1_000));
        assert!(!alive(&mut story, 2_000), "nothing went round");
        life.set_reasons(vec![Reason::new("database", "refused")]);
        assert!(alive(&mut story, 3_000), "a database that is away is no reason for a restart");
        life.enter(Phase::Draining);
        assert!(alive(&mut story, 4_000) && alive(&mut story, 5_000), "it stops in its own time");
    }

    #[test]
    fn o5_the_watchdog_counts_only_for_the_process_it_was_meant_for() {
        let asked = |usec: &str, pid: Option<&str>| Asked {
            socket: "/s".into(),
            watchdog_usec: Some(usec.into()),
            watchdog_pid: pid.map(Into::into),
        };
        let half = Some(Duration::from_millis(500));
        assert_eq!(asked("500000", None).watchdog(7), half);
        assert_eq!(asked("500000", Some("7")).watchdog(7), half);
        assert_eq!(asked("500000", Some("8")).watchdog(7), None);
        assert_eq!(asked("500000", Some("x")).watchdog(7), None);
        assert_eq!(asked("0", None).watchdog(7), None);
        assert_eq!(asked("soon", None).watchdog(7), None);
    }

    #[test]
    fn o5_a_socket_is_a_path_or_an_abstract_name() {
        assert!(address(OsStr::new("/run/systemd/notify")).is_ok());
        for wrong in ["", "@", "notify", "vsock:2:1234"] {
            assert!(address(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    /// Follows a life from its start to its end, and returns all that arrived.
    async fn heard_at(name: &OsStr, listener: UnixDatagram) -> Vec<String> {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixDatagram::from_std(listener).unwrap();
        let notifier =
            Notifier { address: address(name).unwrap(), watchdog: Some(Duration::from_millis(40)) };
        let life = Lifecycle::starting();
        let _telling = start(notifier, &life);
        let (mut heard, mut bytes) = (Vec::new(), [0; 1_024]);
        while !heard.iter().any(|line| line == "STATUS=stopping") {
            let length = timeout(Duration::from_secs(10), listener.recv(&mut bytes)).await;
            let text = String::from_utf8(bytes[..length.unwrap().unwrap()].to_vec()).unwrap();
            heard.extend(text.lines().map(str::to_owned));
            life.set_reasons(Vec::new());
            // Onwards once the phase was told, not at the first sign of life that was still on its way.
            match life.phase() {
                Phase::Starting => life.enter(Phase::Running),
                Phase::Running if text.contains("STATUS=ready") => life.enter(Phase::Draining),
                Phase::Draining if text.contains("draining") => life.enter(Phase::Stopping),
                Phase::Running | Phase::Draining | Phase::Stopping => {}
            }
        }
        heard
    }

    fn has_all(heard: &[String]) -> bool {
        let has = |wanted: &str| heard.iter().any(|line| line == wanted);
        ["READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=ready"].into_iter().all(has)
    }

    #[tokio::test]
    async fn o5_a_life_is_told_at_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = heard_at(path.as_os_str(), UnixDatagram::bind(&path).unwrap()).await;
        assert!(has_all(&heard), "{heard:?}");
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn o5_a_life_is_told_at_an_abstract_name() {
        let name = format!("understudy-{:016x}", rand::random::<u64>());
        let bound = abstract_address(name.as_bytes()).unwrap();
        let listener = UnixDatagram::bind_addr(&bound).unwrap();
        let heard = heard_at(OsStr::new(&format!("@{name}")), listener).await;
        assert!(has_all(&heard), "{heard:?}");
    }

    #[tokio::test]
    async fn a_socket_that_is_away_is_an_error_and_no_hang() {
        let notifier =
            Notifier { address: address(OsStr::new("/nowhere/notify")).unwrap(), watchdog: None };
        assert_eq!(notifier.tell("READY=1").await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
