//! Nodes that make a cluster: how they come together, on which servers, under which names, and what an operator sees
//! of them. Tests are named by the row of the requirements that they stand for.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod cluster {
    mod addresses;
    mod administration;
    mod broadcast;
    mod bus;
    mod caches;
    mod configuration;
    mod draining;
    mod ground;
    mod health;
    mod identity;
    mod joining;
    mod keys;
    mod limits;
    mod locks;
    mod migrations;
    mod outage;
    mod outbox;
    mod redis_kinds;
    mod restored;
    mod secrets;
    mod smoke;
    mod stores;
}
