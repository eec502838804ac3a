//! What this node does when it is asked to, by an operator through whichever node.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::detail::Here;
use super::messages::{DetailOf, DrainHere, IsReady, RestartHere, StopNotesOf, UndrainHere};
use crate::bus::Bus;
use crate::membership::{Drained, MemberState};
use crate::node::Phase;
use crate::service::StopNote;

/// How long the answer to a request for a restart may take to be sent, before the node begins to stop.
const ANSWERED: Duration = Duration::from_millis(200);
/// How long the list of nodes may take to show what this node has told.
const TOLD_LIMIT: Duration = Duration::from_millis(1_000);
/// How long a service may take to say what should be known before the node stops.
const NOTES_LIMIT: Duration = Duration::from_millis(1_500);

/// Answers from now on.
pub(crate) fn listen(bus: &Bus, here: Here) {
    let here = Arc::new(here);
    let of = Arc::clone(&here);
    bus.handle::<DetailOf, _, _>(move |_from, DetailOf {}| {
        let here = Arc::clone(&of);
        async move { here.detail().await }
    });
    let of = Arc::clone(&here);
    bus.handle::<IsReady, _, _>(move |_from, IsReady {}| std::future::ready(of.is_ready()));
    let of = Arc::clone(&here);
    bus.handle::<DrainHere, _, _>(move |_from, DrainHere { by, why }| {
        let here = Arc::clone(&of);
        async move { here.drain(by, why).await }
    });
    let of = Arc::clone(&here);
    bus.handle::<UndrainHere, _, _>(move |_from, UndrainHere { by }| {
        let here = Arc::clone(&of);
        async move { here.undrain(&by).await }
    });
    let of = Arc::clone(&here);
    bus.handle::<RestartHere, _, _>(move |_from, RestartHere { by, why }| {
        of.restart(&by, &why);
        std::future::ready(())
    });
    bus.handle::<StopNotesOf, _, _>(move |_from, StopNotesOf {}| {
        let here = Arc::clone(&here);
        async move { here.stop_notes().await }
    });
}

impl Here {
    /// Takes the node out of service; none when it is being stopped, and so leaves anyway.
    async fn drain(&self, by: String, why: String) -> Option<Drained> {
        if self.lifecycle.phase() != Phase::Running {
            return None;
        }
        let drained = Drained { by, why, at_ms: self.clock.wall_ms() };
        info!(by = drained.by, why = drained.why, "node is taken out of service");
        self.lifecycle.set_drained(Some(drained.clone()));
        self.tell_others().await;
        Some(drained)
    }

    async fn undrain(&self, by: &str) -> bool {
        if self.lifecycle.phase() != Phase::Running {
            return false;
        }
        if self.lifecycle.drained().is_some() {
            info!(by, "node is taken back into service");
            self.lifecycle.set_drained(None);
            self.tell_others().await;
        }
        true
    }

    /// Puts what is the case into the list of nodes, and waits a moment until it is there: the next node that is taken out
    /// must not count on this one. One that begins to stop meanwhile says so afterwards, or is seen here.
    async fn tell_others(&self) {
        let lifecycle = self.lifecycle.clone();
        self.membership.update(move |record| {
            record.drained = lifecycle.drained().filter(|_| !lifecycle.is_draining());
            record.state = match lifecycle.is_leaving() {
                true => MemberState::Draining,
                false => MemberState::Ready,
            };
        });
        if !self.membership.told(TOLD_LIMIT).await {
            warn!("the list of nodes does not show it yet: other nodes will hear of it later");
        }
    }

    fn restart(&self, by: &str, why: &str) {
        if self.lifecycle.is_stop_asked() {
            return;
        }
        info!(by, why, "asked to stop, to be started again");
        self.lifecycle.ask_to_stop();
        let lifecycle = self.lifecycle.clone();
        tokio::spawn(async move {
            sleep(ANSWERED).await;
            lifecycle.begin_stop();
        });
    }

    async fn stop_notes(&self) -> Vec<StopNote> {
        let mut notes = Vec::new();
        if let Some(drained) = self.lifecycle.drained() {
            notes
                .push(StopNote::note(format!("out of service by {}: {}", drained.by, drained.why)));
        }
        match self.requests.count() {
            0 => {}
            1 => notes.push(StopNote::note("1 request is under way")),
            count => notes.push(StopNote::note(format!("{count} requests are under way"))),
        }
        let asked = self.services().map(async |service| {
            let told = timeout(NOTES_LIMIT, service.stop_notes()).await;
            told.unwrap_or_else(|_elapsed| {
                let name = service.name();
                let text = format!("the service {name} did not say what it would lose");
                vec![StopNote::against("service_silent", text)]
            })
        });
        notes.extend(join_all(asked).await.into_iter().flatten());
        notes
    }
}
