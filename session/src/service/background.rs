//! What goes on behind requests for as long as the node lives, each a task that is started again when it panics.

use std::sync::Arc;

use actix::Arbiter;
use tokio::sync::{Mutex, mpsc};
use understudy_runtime::service::NodeContext;
use understudy_runtime::supervise::{Stopped, spawn};

use super::Started;
use crate::keeper;
use crate::kin::{Ending, KinSweeper};
use crate::saving;

/// Has what hangs on sessions end with them: at once where their end is known, else by the leader.
pub(super) fn look_after_kin(node: &NodeContext, started: &Started, ended: mpsc::Receiver<Ending>) {
    let handle = &started.handle;
    if let (Some(kin), Some(arbiter)) = (&handle.0.kin, started.arbiters.first()) {
        node.duties.add(KinSweeper::new(kin.clone(), handle.clone()).duty());
        // One run at a time has it; what a run held that panicked is found by the sweep.
        let ended = Arc::new(Mutex::new(ended));
        let (kin, handle) = (kin.clone(), handle.clone());
        supervise(arbiter, "session-kin", move || {
            let (kin, handle, ended) = (kin.clone(), handle.clone(), Arc::clone(&ended));
            async move {
                let mut ended = ended.lock().await;
                kin.tidy(&handle, &mut ended).await;
                Stopped::Drained
            }
        });
    }
}

/// Has done what is done for all sessions of this node from time to time.
pub(super) fn keep_at_it(node: &NodeContext, started: &Started) {
    let Some(arbiter) = started.arbiters.first() else { return };
    if let Some(saving) = &started.saving {
        let (handle, saving) = (started.handle.clone(), Arc::clone(saving));
        supervise(arbiter, "session-saver", move || {
            let (handle, saving) = (handle.clone(), Arc::clone(&saving));
            async move {
                saving::save(handle, saving).await;
                Stopped::Drained
            }
        });
    }
    let (handle, membership) = (started.handle.clone(), node.membership.clone());
    supervise(arbiter, "session-keeper", move || {
        let (handle, membership) = (handle.clone(), membership.clone());
        async move {
            keeper::keep(handle, membership).await;
            Stopped::Drained
        }
    });
}

/// Runs a task on a thread of the sessions for as long as that lives, and again when it panics.
fn supervise<F, T>(arbiter: &Arbiter, name: &'static str, task: T)
where
    T: FnMut() -> F + Send + 'static,
    F: Future<Output = Stopped> + Send + 'static,
{
    arbiter.spawn(async move {
        let _task = spawn(name, task);
        std::future::pending::<()>().await;
    });
}
