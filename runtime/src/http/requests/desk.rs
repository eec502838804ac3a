//! The list of one worker: what handlers on its thread are working on, and the letters of those who ask for it.
//!
//! Nothing here is shared between threads but the letters. A worker whose thread is blocked by a handler reads none: then
//! what it works on cannot be told, only that it does not answer; what was wanted of it meanwhile it reads afterwards.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, Uri};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::http::client_addr::{Traced, TrustedProxies};
use crate::http::settings::Shared;
use crate::ids::Incarnation;

/// How long a worker may take to answer a letter.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// How many letters may wait.
const LETTERS: usize = 16;
/// How much of the node's incarnation stands in the id of a request: enough to tell one process from the next.
const LIFE: usize = 6;
/// How many requests are listed at most, and how much of a path.
const MOST: usize = 1_000;
const LONGEST_PATH: usize = 256;

/// What is kept of a request while its handler owns it. Cheap: nothing is worked out before somebody asks.
#[derive(Debug)]
pub(crate) struct Visit {
    method: Method,
    uri: Uri,
    client: Traced,
    began: Instant,
}

impl Visit {
    pub(crate) fn of(request: &ServiceRequest, proxies: &TrustedProxies, began: Instant) -> Self {
        let client = proxies.trace(request.head());
        Self { method: request.method().clone(), uri: request.uri().clone(), client, began }
    }
}

/// A request under way, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestInfo {
    /// Which process, which worker of it, which of its requests: so that none of a later process is called the same.
    pub(crate) id: String,
    pub(crate) method: String,
    /// Without its query, which may hold what nobody should read.
    pub(crate) path: String,
    pub(crate) age_ms: u64,
    pub(crate) client: IpAddr,
}

/// The requests of a node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// The oldest first, 1,000 at most.
    pub(crate) requests: Vec<RequestInfo>,
    /// How many workers did not answer: a handler blocks their threads.
    pub(crate) blocked_workers: u32,
}

/// What became of the wish to end a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cancelling {
    /// It is ended: its handler is dropped.
    Done,
    /// Its worker does not answer. It has the letter, and ends the request when it reads it, if that is still under way.
    Later,
    /// Nothing is noted: its worker does not answer, and as many letters wait as may.
    NotNow,
    /// It is not under way.
    Unknown,
}

/// The requests of one worker; only on its thread.
pub(super) struct Desk {
    slots: Rc<RefCell<Slots>>,
    letters: Cell<Option<mpsc::Receiver<Letter>>>,
}

/// Where a worker gets its letters; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Letters {
    worker: usize,
    queue: mpsc::Sender<Letter>,
}

/// Why a worker has not answered a letter.
enum Silence {
    /// It has the letter, and may yet read it.
    Waits,
    /// Too many wait already: it does not have this one.
    Full,
    /// It is gone.
    Gone,
}

#[derive(Debug)]
enum Letter {
    List(oneshot::Sender<Vec<RequestInfo>>),
    Cancel(u64, oneshot::Sender<bool>),
}

/// The places of the requests; a free one is used again.
struct Slots {
    life: Incarnation,
    worker: usize,
    /// How many requests there have been.
    count: u64,
    places: Vec<Option<Slot>>,
    free: Vec<usize>,
}

struct Slot {
    number: u64,
    visit: Visit,
    cancelled: bool,
    waker: Option<Waker>,
}

/// A request in the list; leaves it when dropped.
pub(crate) struct Place {
    slots: Rc<RefCell<Slots>>,
    index: usize,
}

impl Desk {
    pub(super) fn new(life: Incarnation, worker: usize) -> (Self, Letters) {
        let (queue, letters) = mpsc::channel(LETTERS);
        let slots = Slots { life, worker, count: 0, places: Vec::new(), free: Vec::new() };
        let desk = Self { slots: Rc::new(RefCell::new(slots)), letters: Cell::new(Some(letters)) };
        (desk, Letters { worker, queue })
    }

    pub(super) fn enter(&self, visit: Visit) -> Place {
        let index = self.slots.borrow_mut().enter(visit);
        Place { slots: Rc::clone(&self.slots), index }
    }

    pub(super) fn read_letters(&self, settings: Shared) -> impl Future<Output = ()> + 'static {
        let (slots, letters) = (Rc::clone(&self.slots), self.letters.take());
        async move {
            let Some(mut letters) = letters else { return };
            while let Some(letter) = letters.recv().await {
                // Whoever asked may have gone away.
                match letter {
                    Letter::List(answer) => {
                        answer.send(slots.borrow().list(&settings.trusted_proxies)).ok();
                    }
                    Letter::Cancel(number, answer) => {
                        let waker = slots.borrow_mut().cancel(number);
                        answer.send(waker.is_some()).ok();
                        // Outside of the borrow: it may run at once.
                        if let Some(Some(waker)) = waker {
                            waker.wake();
                        }
                    }
                }
            }
        }
    }
}

impl Slots {
    fn enter(&mut self, visit: Visit) -> usize {
        self.count += 1;
        let slot = Slot { number: self.count, visit, cancelled: false, waker: None };
        match self.free.pop() {
            Some(index) => {
                self.places[index] = Some(slot);
                index
            }
            None => {
                self.places.push(Some(slot));
                self.places.len() - 1
            }
        }
    }

    fn leave(&mut self, index: usize) {
        self.places[index] = None;
        self.free.push(index);
    }

    fn list(&self, proxies: &TrustedProxies) -> Vec<RequestInfo> {
        let slots = self.places.iter().flatten().filter(|slot| !slot.cancelled);
        let life = told(self.life);
        slots
            .map(|slot| RequestInfo {
                id: format!("{life}-{}-{}", self.worker, slot.number),
                method: slot.visit.method.to_string(),
                path: slot.visit.uri.path().chars().take(LONGEST_PATH).collect(),
                age_ms: u64::try_from(slot.visit.began.elapsed().as_millis()).unwrap_or(u64::MAX),
                client: proxies.client_of(&slot.visit.client),
            })
            .collect()
    }

    /// Marks a request as cancelled; returns what wakes it, if it waits. `None` when it is not there.
    fn cancel(&mut self, number: u64) -> Option<Option<Waker>> {
        let slot = self.places.iter_mut().flatten().find(|slot| slot.number == number)?;
        slot.cancelled = true;
        Some(slot.waker.take())
    }
}

impl Place {
    /// Waits for an answer; `None` when an operator ends the request before. The answer's future is dropped then.
    pub(crate) async fn or_cancelled<F: Future>(&self, answer: F) -> Option<F::Output> {
        let mut answer = pin!(answer);
        std::future::poll_fn(|context| {
            if self.is_cancelled() {
                return Poll::Ready(None);
            }
            let polled = answer.as_mut().poll(context);
            if polled.is_pending() {
                self.wake_with(context.waker());
            }
            polled.map(Some)
        })
        .await
    }

    fn is_cancelled(&self) -> bool {
        let slots = self.slots.borrow();
        slots.places[self.index].as_ref().is_some_and(|slot| slot.cancelled)
    }

    fn wake_with(&self, waker: &Waker) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = &mut slots.places[self.index] {
            match &mut slot.waker {
                Some(before) => before.clone_from(waker), // keeps the same one as it is
                none => *none = Some(waker.clone()),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.borrow_mut().leave(self.index);
    }
}

impl Letters {
    pub(super) fn is_read(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Asks for the list. Half of the places are for those who want a request ended: who looks again and again at a worker
    /// that is blocked must not take them all.
    async fn list(&self) -> Result<Vec<RequestInfo>, Silence> {
        if self.queue.capacity() <= LETTERS / 2 {
            return Err(Silence::Full);
        }
        self.ask(Letter::List).await
    }

    /// Sends a letter and waits for the answer, for so long at most.
    async fn ask<T>(
        &self,
        letter: impl FnOnce(oneshot::Sender<T>) -> Letter,
    ) -> Result<T, Silence> {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(letter(answer)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Silence::Full),
            Err(TrySendError::Closed(_)) => return Err(Silence::Gone),
        }
        match tokio::time::timeout(ANSWER_LIMIT, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            // The letter was thrown away unread, with all the others.
            Ok(Err(_)) => Err(Silence::Gone),
            Err(_) => Err(Silence::Waits),
        }
    }
}

/// Asks all workers for their lists.
pub(super) async fn list(desks: &[Letters]) -> Listing {
    let answers = desks.iter().filter(|desk| desk.is_read()).map(|desk| desk.list());
    let mut listing = Listing::default();
    for answer in futures_util::future::join_all(answers).await {
        match answer {
            Ok(requests) => listing.requests.extend(requests),
            Err(Silence::Waits | Silence::Full) => listing.blocked_workers += 1,
            Err(Silence::Gone) => {}
        }
    }
    listing.requests.sort_by_key(|request| std::cmp::Reverse(request.age_ms));
    listing.requests.truncate(MOST);
    listing
}

/// Asks the worker that has it to end a request.
pub(super) async fn cancel(desks: &[Letters], life: Incarnation, id: &str) -> Cancelling {
    let found = parse(life, id).and_then(|(worker, number)| {
        Some((desks.iter().find(|desk| desk.worker == worker)?, number))
    });
    let Some((desk, number)) = found else { return Cancelling::Unknown };
    match desk.ask(|answer| Letter::Cancel(number, answer)).await {
        Ok(true) => Cancelling::Done,
        Ok(false) | Err(Silence::Gone) => Cancelling::Unknown,
        Err(Silence::Waits) => Cancelling::Later,
        Err(Silence::Full) => Cancelling::NotNow,
    }
}

/// The part of an id that tells the process.
fn told(life: Incarnation) -> String {
    life.to_string().chars().take(LIFE).collect()
}

/// Reads an id; `None` also for one of another process, which would mean another request here.
fn parse(life: Incarnation, id: &str) -> Option<(usize, u64)> {
    let (worker, number) = id.strip_prefix(&told(life))?.strip_prefix('-')?.split_once('-')?;
    Some((worker.parse().ok()?, number.parse().ok()?))
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("worker", &self.slots.borrow().worker).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("index", &self.index).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
