//! Looks for a way to break the session protocol.
#[path = "model/explore.rs"] mod explore;
#[path = "model/lease.rs"] mod lease;
#[path = "model/node.rs"] mod node;
#[path = "model/rules.rs"] mod rules;
#[path = "model/server.rs"] mod server;
#[path = "model/world.rs"] mod world;
