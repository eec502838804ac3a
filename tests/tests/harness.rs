//! Proves the harness itself: what a cluster test believes about servers, networks and waiting.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod harness {
    mod balancer;
    mod lifetime;
    mod network;
    mod nodes;
    mod stores;
    mod tiny;
}
