//! Operations that travel to the node that owns the session, and come back as answers.
//!
//! Each carries an id that stays the same when it is sent again: the owner remembers what it answered, and the record
//! lists the latest operations, so that a node which takes over knows what became of them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use understudy_runtime::bus::{BusError, BusRequest};
use understudy_runtime::ids::NodeId;

use crate::engine::{Answer, Forwarded, Job, Refusal, Reply, Trace, Work};
use crate::handle::{SessionHandle, Shard};
use crate::record::{Locator, OpId, SecretHash};
use crate::state::{Ask, Op, Outcome, Task};

/// A job for the owner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forward {
    locator: Locator,
    /// Hash of the secret that the request presented, base64url.
    secret: Option<String>,
    what: What,
    id: OpId,
    known_version: u64,
    uncertain: bool,
    /// How long the asking node waits, ms.
    wait_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Op(Op),
    Revoke,
}

/// What the owner says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForwardReply {
    Done(Outcome, u64),
    Revoked,
    Refused(Refusal),
    /// Not known here; whoever owns the session next looks it up in the record.
    Lost,
}

impl Forward {
    /// Asks the owner to end a session, whatever opens it.
    pub(crate) fn end(locator: Locator, wait: Duration) -> Self {
        Self {
            locator,
            secret: None,
            what: What::Revoke,
            id: OpId::random(),
            known_version: 0,
            uncertain: false,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl ForwardReply {
    /// Whether the node that says so shows nothing of the session any more.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Revoked | Self::Refused(Refusal::Ended | Refusal::NotOwner) => true,
            Self::Done(..) | Self::Lost | Self::Refused(_) => false,
        }
    }
}

impl BusRequest for Forward {
    const NAME: &'static str = "session.forward";
    type Reply = ForwardReply;
}

/// Sends `job` to `node` and waits for the answer, at most `limit`.
pub(crate) async fn forward(
    shard: &Arc<Shard>,
    locator: Locator,
    node: NodeId,
    job: Job,
    limit: Duration,
) -> (NodeId, Job, Forwarded) {
    // The owner may go on for as long as the asker waits: one that is busy is asked again, not given up.
    let wait = job.deadline.saturating_duration_since(shard.clock.now());
    let Some(message) = message(locator, &job, wait) else {
        return (node, job, Forwarded::Answered(Err(Refusal::NotOwner)));
    };
    shard.counters.forwards.increment(1);
    let came = match shard.bus.request(&node, &message, limit).await {
        Ok(ForwardReply::Lost) => Forwarded::NoAnswer,
        Ok(reply) => Forwarded::Answered(reply.into()),
        Err(BusError::NoReceiver | BusError::NoHandler) => Forwarded::NotDelivered,
        Err(error) => {
            tracing::debug!(owner = %node, error = %error, "owner of a session did not answer");
            Forwarded::NoAnswer
        }
    };
    (node, job, came)
}

fn message(locator: Locator, job: &Job, wait: Duration) -> Option<Forward> {
    let (secret, what) = match &job.work {
        Work::Ask(Ask { secret, task: Task::Op(op), .. }) => (Some(*secret), What::Op(op.clone())),
        Work::Revoke(secret) => (*secret, What::Revoke),
        Work::Ask(_) | Work::View => return None,
    };
    let trace = job.trace?;
    Some(Forward {
        locator,
        secret: secret.map(SecretHash::to_text),
        what,
        id: trace.id,
        known_version: trace.known_version,
        uncertain: trace.uncertain,
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Does here what another node asks for; answers [`Refusal::NotOwner`] when this node may not.
///
/// When the actor is lost with the job, its successor looks up in the record whether it was carried out. When that is
/// lost too, whoever asked is told so, and does the same.
pub(crate) async fn serve(handle: SessionHandle, forward: Forward) -> ForwardReply {
    match attempt(&handle, &forward, forward.uncertain).await {
        Err(Refusal::Lost) => attempt(&handle, &forward, true)
            .await
            .map_or_else(after_a_loss, |reply| Ok(reply).into()),
        answer => answer.into(),
    }
}

/// That the second attempt did not carry the job out, by a node that is stopping for example, says nothing of the first.
fn after_a_loss(refusal: Refusal) -> ForwardReply {
    match refusal {
        Refusal::NotOwner
        | Refusal::Busy
        | Refusal::Conflict
        | Refusal::Refused
        | Refusal::Unreadable
        | Refusal::Unavailable
        | Refusal::Lost => ForwardReply::Lost,
        Refusal::Ended | Refusal::OutcomeUnknown => ForwardReply::Refused(refusal),
    }
}

async fn attempt(handle: &SessionHandle, forward: &Forward, uncertain: bool) -> Answer {
    let secret = forward.secret.as_deref().and_then(SecretHash::from_text);
    if forward.secret.is_some() && secret.is_none() {
        return Err(Refusal::Ended); // what cannot be read opens nothing
    }
    let work = match (&forward.what, secret) {
        (What::Op(op), Some(secret)) => {
            Work::Ask(Ask { secret, task: Task::Op(op.clone()), remote: Some(forward.id) })
        }
        (What::Op(_), None) => return Err(Refusal::Ended),
        (What::Revoke, secret) => Work::Revoke(secret),
    };
    let trace = Trace { id: forward.id, known_version: forward.known_version, uncertain };
    let wait = Duration::from_millis(forward.wait_ms);
    handle.submit_for_peer(forward.locator, work, trace, wait).await
}

impl From<ForwardReply> for Answer {
    fn from(reply: ForwardReply) -> Self {
        match reply {
            ForwardReply::Done(outcome, version) => Ok(Reply::Done(outcome, version)),
            ForwardReply::Revoked => Ok(Reply::Revoked),
            ForwardReply::Refused(refusal) => Err(refusal),
            ForwardReply::Lost => Err(Refusal::Lost),
        }
    }
}

impl From<Answer> for ForwardReply {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(Reply::Done(outcome, version)) => Self::Done(outcome, version),
            Ok(Reply::Revoked) => Self::Revoked,
            Ok(Reply::View(_)) => Self::Refused(Refusal::NotOwner), // peers never ask for a look
            Err(Refusal::Lost) => Self::Lost,
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_was_lost_is_never_called_undone_by_a_node_that_stops_meanwhile() {
        // The asker would carry out again what the first attempt may have carried out.
        for refusal in [Refusal::NotOwner, Refusal::Busy, Refusal::Conflict, Refusal::Lost] {
            assert!(matches!(after_a_loss(refusal), ForwardReply::Lost), "{refusal:?}");
        }
        let ended = after_a_loss(Refusal::Ended);
        assert!(matches!(ended, ForwardReply::Refused(Refusal::Ended)));
    }
}
