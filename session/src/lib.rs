//! Sessions owned by actors: never a lost update, and they survive any node.

pub mod ownership;
pub mod record;
pub mod spec;
pub mod state;
pub mod store;
