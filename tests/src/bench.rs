//! The benchmark: what a session costs, and a job, next to what each would cost in other ways, in one run.
//!
//! Every number is a ratio to something measured in the same round on the same machine, because
//! rates of a shared machine mean little by themselves. The parts: [`Load`] is the clients, [`Meter`]
//! counts what servers and Redis did meanwhile, [`Stage`] starts everything that is compared,
//! [`Case`] is one line of the table, [`Report`] is the table. On clusters of their own: [`settings`] is what options cost a
//! write, [`cache`] what the cache costs beside its parts, [`pages`] what it costs to tell many, [`multitude`] a node with very
//! many sessions, [`files`] how fast files are written and read, and [`jobs`] the same for the scheduler. It does not test: a lost
//! update is counted here and forbidden elsewhere.

pub mod cache;
mod case;
pub mod files;
pub mod jobs;
mod latency;
mod load;
mod memory;
mod meter;
pub mod multitude;
pub mod pages;
pub mod peers;
mod report;
mod run;
pub mod settings;
mod stage;
mod wire;

pub use case::Case;
pub use latency::Latency;
pub use load::{Line, Load, Totals, Visitor};
pub use memory::MemoryUse;
pub use meter::{Costs, Meter};
pub use report::Report;
pub use run::{Options, run};
pub use stage::{Peer, Stage};
pub use wire::{Answer, Exchange};
