//! The administration port: who may do what, and the resources that every node has.
//!
//! What there is stands in tables of [`Operation`]s, those of every node in `operations.rs`; `GET /v1/openapi.json` shows all
//! of them with what they take and answer.
//!
//! Services bring theirs. It listens apart from the public port, so that no route of an application and no
//! mistake in a balancer can expose it.

mod access;
pub(crate) mod actors;
pub(crate) mod audit;
pub(crate) mod caches;
mod config;
mod diag;
mod events;
mod locks;
mod logs;
mod maintenance;
mod members;
mod migrations;
pub mod nodes;
mod openapi;
mod operation;
mod operations;
mod people;
mod problems;
mod repeated;
pub(crate) mod requests;
mod resources;
mod seal;
mod settings;
mod signed_out;
pub(crate) mod tasks;
pub(crate) mod tokens;

pub use access::{AdminPort, BROWSER, Principal, ROLES, Role, principal, require};
pub mod asked;
pub use audit::{Audit, note};
pub use operation::{Audited, BodyForm, Operation, Operations, Parameter};
pub(crate) use operations::OPERATIONS;
pub(crate) use resources::{AdminState, configure, metrics};
pub use signed_out::SignOuts;
