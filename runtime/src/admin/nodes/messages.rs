//! What nodes are asked for by each other on behalf of operators. All of it may be asked again: it comes to the same.

use serde::{Deserialize, Serialize};

use super::detail::NodeDetail;
use crate::bus::BusRequest;
use crate::membership::Drained;
use crate::service::StopNote;

/// Asks a node how it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DetailOf {}

impl BusRequest for DetailOf {
    const NAME: &'static str = "nodes.detail";
    type Reply = NodeDetail;
}

/// Asks a node whether it is ready, and will be.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IsReady {}

impl BusRequest for IsReady {
    const NAME: &'static str = "nodes.is_ready";
    type Reply = bool;
}

/// Takes a node out of service; none is answered by one that is being stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DrainHere {
    pub(super) by: String,
    pub(super) why: String,
}

impl BusRequest for DrainHere {
    const NAME: &'static str = "nodes.drain";
    type Reply = Option<Drained>;
}

/// Takes a node back into service; answers whether it could be: one that is being stopped cannot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UndrainHere {
    pub(super) by: String,
}

impl BusRequest for UndrainHere {
    const NAME: &'static str = "nodes.undrain";
    type Reply = bool;
}

/// Has a node drain and end its process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestartHere {
    pub(super) by: String,
    pub(super) why: String,
}

impl BusRequest for RestartHere {
    const NAME: &'static str = "nodes.restart";
    type Reply = ();
}

/// Asks a node what should be known before it is stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StopNotesOf {}

impl BusRequest for StopNotesOf {
    const NAME: &'static str = "nodes.stop_notes";
    type Reply = Vec<StopNote>;
}
