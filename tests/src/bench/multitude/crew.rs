//! Clients that have one request each for many sessions, and share them out among themselves.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::bench::case::{CLIENTS, fill};
use crate::bench::stage::Site;
use crate::bench::wire::{self, Exchange};

/// What came of one request for each of many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walked {
    /// Answers with a status below 300.
    pub(super) written: usize,
    /// Other answers.
    pub(super) refused: usize,
    /// How long all of it took.
    pub(super) elapsed: Duration,
}

/// Begins so many sessions of 1 KB; gives their cookies, and how long it took.
pub(super) async fn begin_each(
    site: Site,
    count: usize,
    threads: usize,
) -> (Vec<String>, Duration) {
    let shared = Arc::new((fill("blob"), AtomicUsize::new(0)));
    let began = Instant::now();
    let made: Vec<Vec<String>> = crew(site, threads, move |mut exchange: Exchange| {
        let shared = Arc::clone(&shared);
        async move {
            let (line, next) = &*shared;
            let mut cookies = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let answer = exchange.answer(line, None).await.expect("the server answers");
                cookies.push(answer.cookie.expect("the first write begins a session"));
            }
            cookies
        }
    })
    .await;
    let took = began.elapsed();
    (made.into_iter().flatten().collect(), took)
}

/// Adds one in each of these sessions.
pub(super) async fn write_each(
    site: Site,
    cookies: &Arc<Vec<String>>,
    range: Range<usize>,
    threads: usize,
) -> Walked {
    let shared = Arc::new((Arc::clone(cookies), AtomicUsize::new(range.start)));
    let end = range.end;
    let began = Instant::now();
    let refused: Vec<usize> = crew(site, threads, move |mut exchange: Exchange| {
        let shared = Arc::clone(&shared);
        async move {
            let (cookies, next) = &*shared;
            let mut refused = 0_usize;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    break refused;
                }
                let cookie = Some(cookies[number].as_str());
                let request = wire::request(site.address, "POST /incr", cookie);
                let status = exchange.status(&request).await.expect("the server answers");
                refused += usize::from(status >= 300);
            }
        }
    })
    .await;
    let elapsed = began.elapsed();
    let refused: usize = refused.into_iter().sum();
    Walked { written: range.len() - refused, refused, elapsed }
}

/// Lets as many clients as a steady case has work on threads of their own, each over one connection; gives what each brought.
async fn crew<T, F>(
    site: Site,
    threads: usize,
    client: impl Fn(Exchange) -> F + Send + Sync + 'static,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (client, threads) = (Arc::new(client), threads.max(1));
    let mut running = Vec::new();
    for _ in 0..threads {
        let client = Arc::clone(&client);
        let body = move || at_work(site, CLIENTS.div_ceil(threads), &*client);
        let thread = std::thread::Builder::new().name("client".to_owned());
        running.push(thread.spawn(body).expect("a thread can be started"));
    }
    let join = |thread: JoinHandle<Vec<T>>| thread.join().expect("the clients met no error");
    let brought =
        tokio::task::spawn_blocking(move || running.into_iter().flat_map(join).collect::<Vec<T>>());
    brought.await.expect("it does not panic by itself")
}

/// One thread of clients.
fn at_work<T, F>(site: Site, clients: usize, client: &impl Fn(Exchange) -> F) -> Vec<T>
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread can be made");
    runtime.block_on(async {
        let mut working = Vec::new();
        for _ in 0..clients {
            working.push(client(site.connect().await));
        }
        join_all(working).await
    })
}
