//! Sessions owned by actors: they never lose an update, and they survive any node.
//!
//! A session lives in a store that all nodes share, and in the memory of at most one node, its *owner*. The owner
//! answers reads from memory as long as it holds the node's lease, and sends each change to the store behind a
//! fencing token before anybody is told of it. Other nodes read from the store and send changes to the owner. When the
//! owner's lease is over, whoever needs the session next claims it.
//!
//! | file | what for |
//! |---|---|
//! | [`session`] | what handlers use |
//! | [`handle`] | looks at, changes, begins and ends sessions |
//! | `actor`, [`engine`] | the actor that owns one session, and its decisions without I/O |
//! | [`ownership`], [`state`], [`record`] | when a copy may be trusted; what operations do; what a session is |
//! | [`store`], [`spec`] | where sessions are kept, and what every store must do |
//! | [`schema`] | versions of attributes, and what brings a value from one to the next |
//! | [`sizes`] | what is largest in a session that would become too large |
//! | [`packing`] | packs large values for a store |
//! | [`sealing`] | the cipher and the keys that seal contents in a store; [`store::sealed`] uses them |
//! | `saving` | brings sessions from Redis to the database, where they are kept in both ([`store::persisted`]) |
//! | [`expiry`] | ends sessions that ran out of time, and tells the application of all ends |
//! | [`realtime`] | tells pages that are open of events, on whichever node they are |
//! | `admin` | what operators see of and do with sessions |
//! | `affinity` | moves a session to the node that its requests come to |
//! | [`users`] | who is logged in where, and how often |
//! | [`lockout`] | counts failures to log in |
//! | `kin` | child sessions and temporary files, which end with their session |
//! | [`keyring`] | the cookie and the keys that sign it |
//! | [`service`] | how a node starts and drains all this |

mod actor;
mod admin;
mod affinity;
mod cookie;
pub mod engine;
pub mod error;
pub mod expiry;
mod forward;
pub mod handle;
mod keeper;
pub mod keyring;
mod kin;
mod listener;
pub mod lockout;
mod metrics;
pub mod middleware;
pub mod options;
pub mod ownership;
pub mod packing;
pub mod realtime;
pub mod record;
mod resident;
mod saving;
pub mod schema;
pub mod sealing;
pub mod service;
pub mod session;
mod shards;
pub mod sizes;
pub mod spec;
pub mod state;
pub mod store;
pub mod users;

pub use crate::metrics::catalogue as metrics;
pub use error::SessionError;
pub use expiry::{EndReason, SessionEnded, SessionExpired};
pub use handle::SessionHandle;
pub use lockout::{Lockout, LockoutError};
pub use middleware::SessionMiddleware;
pub use realtime::{Recipient, SessionEvent};
pub use schema::{Schema, SessionState};
pub use service::{SessionService, Sessions};
pub use session::{
    Child, CookieLife, LoginOptions, NoTouch, Session, SessionInfo, TempDir, TempFile, TempFileInfo,
};
pub use users::SessionLimitExceeded;
