//! Messages between the schedulers of the nodes. None of them has to arrive: each only saves waiting.

use serde::{Deserialize, Serialize};
use understudy_runtime::bus::BusRequest;

/// Something was put into the queue, or was changed by an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LookAgain {}

impl BusRequest for LookAgain {
    const NAME: &'static str = "scheduler.look_again";
    type Reply = ();
}

/// An operator has set something for the cluster or a node: a switch, or maintenance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LookAround {}

impl BusRequest for LookAround {
    const NAME: &'static str = "scheduler.look_around";
    type Reply = ();
}

/// A run that this node has is to end; answers whether it has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CancelHere {
    pub(crate) run: i64,
    pub(crate) by: String,
}

impl BusRequest for CancelHere {
    const NAME: &'static str = "scheduler.cancel";
    type Reply = bool;
}

/// The node is to let another lead; answers whether it led.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepDownHere {
    /// How long it does not lead then, ms; one time to live of the lease when not said.
    pub(crate) hold_ms: Option<u64>,
}

impl BusRequest for StepDownHere {
    const NAME: &'static str = "scheduler.step_down";
    type Reply = bool;
}

/// Asks a node whether it could lead.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CouldLead {}

/// Whether a node could lead; whether it is in maintenance stands in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Whether it may lead, reaches the store of the lease, and does not stop.
    pub(crate) eligible: bool,
    /// Whether it waits for a time because it gave way or had to.
    pub(crate) held: bool,
}

impl BusRequest for CouldLead {
    const NAME: &'static str = "scheduler.could_lead";
    type Reply = Standing;
}
