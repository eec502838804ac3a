//! Everything between a socket and a handler: limits, deadlines, identity of a request, protection, health.

pub mod problem;
