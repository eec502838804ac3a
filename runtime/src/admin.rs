//! The administration port: who may do what, and the resources that every node has.
//!
//! | resource | role | what it shows |
//! |---|---|---|
//! | `GET /health/{live,ready,startup}` and aliases | none | as on the public port, with the reasons |
//! | `GET /metrics` | viewer | all metrics, for Prometheus |
//! | `GET /v1/about` | viewer | this node, its phase, its services and their health |
//! | `GET /v1/nodes` | viewer | all nodes of the cluster |
//! | `GET /v1/config` | viewer | every option in effect, secrets as stars |
//! | `GET /v1/locks` | viewer | the locks that are held in the cluster |
//! | `DELETE /v1/locks/{name}` | operator | takes a lock away from its holder |
//!
//! Services add their own. It listens apart from the public port, so that no route of an application and no
//! mistake in a balancer can expose it.

mod access;
mod locks;
mod resources;

pub(crate) use access::AdminAccess;
pub use access::{Principal, Role, principal, require};
pub(crate) use resources::{AdminState, configure, metrics};
