//! What one connection is told, one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::{Instant, sleep_until};

use super::event::SessionEvent;
use super::hub::{Held, Realtime};
use super::log::{AT_ONCE, Read};
use super::position::{Mark, Position};
use super::{QUIET, Topic};
use crate::error::SessionError;
use crate::handle::SessionHandle;
use crate::record::{Locator, SecretHash};
use crate::store::StoreError;

/// How soon a connection looks again when the store or Redis did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// The event that says that some are missing.
const RESET: &str = "reset";

/// Something that a connection is to be told.
#[derive(Clone, PartialEq, Eq)]
pub struct Told {
    /// Where it stands: given back by whoever comes back, it tells what was told last.
    pub id: String,
    /// The name of the event; `reset` when events are missing, and the page must read everything anew.
    pub name: Arc<str>,
    /// The value: one line of JSON.
    pub data: Arc<str>,
}

/// Who opens a connection, and where it goes on.
pub(crate) struct Opening<'a> {
    pub(crate) locator: Locator,
    pub(crate) secret: SecretHash,
    pub(crate) user: Option<&'a str>,
    pub(crate) last: Option<&'a str>,
}

/// A connection of a session: gives what the session and its user are told from now on, or since it was last there.
///
/// It keeps nothing but its place. While it is not asked for more, events wait in their streams, and are missed with a `reset`
/// only when it is not asked for too long.
pub struct Subscription {
    handle: SessionHandle,
    realtime: Realtime,
    locator: Locator,
    secret: SecretHash,
    /// The stream of the session, then that of its user if there is one.
    lines: Vec<Line>,
    ready: VecDeque<Told>,
    /// When it looks by itself.
    due: Instant,
    over: bool,
}

/// A stream, and how far it was told.
struct Line {
    held: Held,
    mark: Mark,
    /// There may be something new.
    stale: bool,
}

/// What comes next.
pub(super) enum Step {
    /// This is to be told.
    Told(Told),
    /// Nothing is, for a while.
    Quiet,
    /// Nothing will be.
    Over,
}

/// Why a wait ended.
enum Waited {
    Leaving,
    News,
    Due,
}

impl Line {
    /// Listens first and asks then, so that nothing comes in between.
    async fn open(
        realtime: &Realtime,
        topic: Topic,
        mark: Option<Mark>,
    ) -> Result<Self, SessionError> {
        let held = realtime.hold(topic).ok_or(SessionError::TooManyStreams)?;
        let stale = mark.is_some();
        let mark = match mark {
            Some(mark) => mark,
            None => realtime.log().newest(held.topic()).await?,
        };
        Ok(Self { held, mark, stale })
    }

    async fn woken(&mut self) {
        self.held.woken().await;
        self.stale = true;
    }

    async fn read(&self, realtime: &Realtime) -> Result<Option<Read>, StoreError> {
        if !self.stale {
            return Ok(None);
        }
        realtime.log().read(self.held.topic(), self.mark).await.map(Some)
    }
}

impl Subscription {
    /// Opens a connection. Who comes back with a text that is no place in the streams has missed something.
    pub(crate) async fn open(
        handle: &SessionHandle,
        opening: Opening<'_>,
    ) -> Result<Self, SessionError> {
        let realtime = handle.0.realtime.clone();
        if realtime.is_leaving() {
            return Err(SessionError::Busy);
        }
        let Opening { locator, secret, user, last } = opening;
        let place = last.map(|last| Position::parse(last).unwrap_or(Position::NOWHERE));
        let mark = place.map(|place| place.session);
        let mut lines = vec![Line::open(&realtime, Topic::Session(locator), mark).await?];
        if let Some(user) = user {
            let mark = place.and_then(|place| place.user);
            lines.push(Line::open(&realtime, Topic::of_user(user), mark).await?);
        }
        let stale = lines.iter().any(|line| line.stale);
        let due = if stale { Instant::now() } else { Instant::now() + QUIET };
        let (ready, handle) = (VecDeque::new(), handle.clone());
        Ok(Self { handle, realtime, locator, secret, lines, ready, due, over: false })
    }

    /// Gives what is to be told next, as soon as there is something; `None` when the connection is over: the session has ended,
    /// its cookie was replaced, or the node is to stop. A client that comes back finds out which. It may be dropped while it
    /// waits, and called again.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            match self.step().await {
                Step::Told(told) => return Some(told),
                Step::Quiet => {}
                Step::Over => return None,
            }
        }
    }

    /// Gives the place where the connection is, for a client that was told nothing yet.
    #[must_use]
    pub fn position(&self) -> String {
        self.place().to_string()
    }

    pub(super) async fn step(&mut self) -> Step {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Step::Told(told);
            }
            if self.over {
                return Step::Over;
            }
            let due = match self.wait().await {
                Waited::Leaving => {
                    self.over = true;
                    false
                }
                Waited::News => false,
                Waited::Due => {
                    self.lines.iter_mut().for_each(|line| line.stale = true);
                    true
                }
            };
            if !self.over {
                self.look().await;
            }
            if due && self.ready.is_empty() && !self.over {
                return Step::Quiet;
            }
        }
    }

    async fn wait(&mut self) -> Waited {
        let woken = self.lines.iter_mut().map(|line| Box::pin(line.woken()));
        tokio::select! {
            biased;
            () = self.realtime.leaving() => Waited::Leaving,
            _ = select_all(woken) => Waited::News,
            () = sleep_until(self.due) => Waited::Due,
        }
    }

    /// Reads what is new, then looks at the session, and only then has it told: so whoever is told something was let in after
    /// that was kept. What does not succeed now is done again in a moment.
    async fn look(&mut self) {
        self.due = Instant::now() + AGAIN;
        let news = self.read().await;
        let shown = self.handle.peek(self.locator, &self.secret).await;
        match (shown, news) {
            (Ok(None), _) => self.over = true,
            (Ok(Some(_)), Ok(news)) => self.take_in(news),
            (Ok(Some(_)), Err(error)) => tracing::debug!(%error, "events cannot be read now"),
            (Err(refusal), _) => tracing::debug!(?refusal, "a session cannot be seen now"),
        }
    }

    async fn read(&self) -> Result<Vec<Option<Read>>, StoreError> {
        let mut news = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            news.push(line.read(&self.realtime).await?);
        }
        Ok(news)
    }

    /// What is missing is told first: the id of an event tells where both streams are by then, and whoever comes back with it
    /// must have been told.
    fn take_in(&mut self, news: Vec<Option<Read>>) {
        let mut missed = false;
        for (line, read) in self.lines.iter_mut().zip(&news) {
            if let Some(Read::Gap(mark)) = read {
                line.stale = false;
                line.mark = *mark;
                missed = true;
            }
        }
        if missed {
            self.reset();
        }
        for (at, read) in news.into_iter().enumerate() {
            let Some(Read::News(events)) = read else { continue };
            self.lines[at].stale = events.len() >= AT_ONCE;
            for (number, event) in events {
                self.lines[at].mark.number = number;
                let id = self.position();
                self.ready.push_back(Told::new(id, &event));
            }
        }
        let more = self.lines.iter().any(|line| line.stale);
        self.due = if more { Instant::now() } else { Instant::now() + QUIET };
    }

    fn reset(&mut self) {
        metrics::counter!("session_event_resets_total").increment(1);
        let id = self.position();
        self.ready.push_back(Told { id, name: RESET.into(), data: "{}".into() });
    }

    fn place(&self) -> Position {
        let mut marks = self.lines.iter().map(|line| line.mark);
        let none = Mark { birth: 0, number: 0 };
        Position { session: marks.next().unwrap_or(none), user: marks.next() }
    }
}

impl Told {
    fn new(id: String, event: &SessionEvent) -> Self {
        Self { id, name: event.name().into(), data: event.data().into() }
    }
}

impl fmt::Debug for Told {
    /// Shows no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("over", &self.over).finish_non_exhaustive()
    }
}
