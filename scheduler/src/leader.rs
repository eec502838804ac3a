//! The leader: the one node that claims due times, as long as it holds a lease and has an epoch.
//!
//! Two things make a leader, and they do different work:
//!
//! - A **lease** ([`LeaderLease`]), in Redis or the database, makes it likely that one node leads and quick that
//!   another does when it is gone. It is trusted until the moment its renewal was sent plus its time to live, less a
//!   margin, by a clock that goes on while the machine sleeps.
//! - An **epoch** ([`Inauguration`]), counted by the database, makes a second start of one due time impossible: each
//!   claim checks it in its own transaction. Clocks, pauses and partitions may make two nodes believe that they lead;
//!   one of them has the wrong epoch, learns it with its first claim, and steps down.
//!
//! [`Leadership`] decides, without clock or store; the actor behind [`LeaderHandle`] carries it out on a thread that does
//! nothing else; the [`LeaderBoard`] says at any moment on any thread whether this node leads. When it does not
//! any more, for whatever reason, [`Term::ended`] fires.

mod actor;
mod board;
mod handle;
mod inauguration;
mod leadership;
mod lease;
mod messages;
mod status;

pub use board::{LeaderBoard, Term};
pub use handle::{LEADER, LeaderHandle, LeaderSpec};
pub use inauguration::{Inauguration, InaugurationError};
pub use leadership::{Action, Event, Leadership, LeadershipRules};
pub use lease::{
    Acquire, DatabaseLease, FallbackLease, Held, InvalidLeaseValue, LeaderLease, LeaderLeaseError,
    LeaseValue, RedisLease, Renewal, SingleLease,
};
pub use messages::{HandOverAnswer, LeaderReleased, RequestHandOver};
pub use status::{EndReason, LeaderPhase, LeaderState, LeaderStatus};
