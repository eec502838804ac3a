//! The list of one worker: what handlers on its thread are working on, and the letters of those who ask for it.
//!
//! Nothing here is shared between threads but the letters. A worker whose thread is blocked by a handler reads none: then
//! what it works on cannot be told, only that it does not answer.

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
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::http::client_addr::{Traced, TrustedProxies};
use crate::http::settings::Shared;

/// How long a worker may take to answer a letter.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// How many letters may wait.
const LETTERS: usize = 16;
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

#[derive(Debug)]
enum Letter {
    List(oneshot::Sender<Vec<RequestInfo>>),
    Cancel(u64, oneshot::Sender<bool>),
}

/// The places of the requests; a free one is used again.
struct Slots {
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
    pub(super) fn new(worker: usize) -> (Self, Letters) {
        let (queue, letters) = mpsc::channel(LETTERS);
        let slots = Slots { worker, count: 0, places: Vec::new(), free: Vec::new() };
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
        slots
            .map(|slot| RequestInfo {
                id: format!("{}-{}", self.worker, slot.number),
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

    /// Sends a letter and waits for the answer, for so long at most.
    async fn ask<T>(&self, letter: impl FnOnce(oneshot::Sender<T>) -> Letter) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(letter(answer)).ok()?;
        tokio::time::timeout(ANSWER_LIMIT, answered).await.ok()?.ok()
    }
}

/// Asks all workers for their lists.
pub(super) async fn list(desks: &[Letters]) -> Listing {
    let answers = desks.iter().filter(|desk| desk.is_read()).map(|desk| desk.ask(Letter::List));
    let mut listing = Listing::default();
    for answer in futures_util::future::join_all(answers).await {
        match answer {
            Some(requests) => listing.requests.extend(requests),
            None => listing.blocked_workers += 1,
        }
    }
    listing.requests.sort_by_key(|request| std::cmp::Reverse(request.age_ms));
    listing.requests.truncate(MOST);
    listing
}

/// Asks the worker that has it to end a request.
pub(super) async fn cancel(desks: &[Letters], id: &str) -> bool {
    let Some((worker, number)) = parse(id) else { return false };
    let Some(desk) = desks.iter().find(|desk| desk.worker == worker) else { return false };
    desk.ask(|answer| Letter::Cancel(number, answer)).await.unwrap_or(false)
}

fn parse(id: &str) -> Option<(usize, u64)> {
    let (worker, number) = id.split_once('-')?;
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
