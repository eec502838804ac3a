//! Clients with sessions of their own at one node, which ask now and then: what they notice of what else happens there.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::bench::case::session;
use crate::bench::latency::Latency;
use crate::bench::stage::Site;
use crate::bench::wire::{self, Exchange};

const CLIENTS: usize = 4;
/// How long each waits after an answer at least, before it asks again.
const EVERY: Duration = Duration::from_millis(10);

/// A few clients, each with a session of its own that the node owns.
#[derive(Debug)]
pub(super) struct Others(Vec<Client>);

#[derive(Debug)]
struct Client {
    connection: Exchange,
    /// A read and a write, in turn.
    requests: [Vec<u8>; 2],
}

impl Others {
    /// Begins their sessions.
    pub(super) async fn begin(site: Site) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let cookie = session(site).await;
            let request = |line: &str| wire::request(site.address, line, Some(&cookie));
            let requests = ["GET /read", "POST /incr"].map(request);
            clients.push(Client { connection: site.connect().await, requests });
        }
        Self(clients)
    }

    /// Lets them ask until something is done; gives what came of that, and how long their requests took meanwhile.
    pub(super) async fn beside<T>(
        &mut self,
        what: &'static str,
        work: impl Future<Output = T>,
    ) -> (T, Latency) {
        let over = Cell::new(false);
        let work = async {
            let done = work.await;
            over.set(true);
            done
        };
        let asking = join_all(self.0.iter_mut().map(|client| client.ask(&over)));
        let (done, times) = tokio::join!(work, asking);
        (done, Latency::of(what, times.into_iter().flatten().collect()))
    }
}

impl Client {
    /// Asks once at least.
    async fn ask(&mut self, over: &Cell<bool>) -> Vec<Duration> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut times = Vec::new();
        for request in self.requests.iter().cycle() {
            ticks.tick().await;
            let sent = Instant::now();
            let status = self.connection.status(request).await.expect("the server answers");
            times.push(sent.elapsed());
            assert!(status < 300, "a session that nobody touches: {status}");
            if over.get() {
                break;
            }
        }
        times
    }
}
