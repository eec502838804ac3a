//! What goes wrong in a cluster, and what must hold all the same: no acknowledged write is lost or done twice, no
//! answer is older than the last acknowledged write, and service is back within a time that is told.
//!
//! The tests measure times, so they run one after the other (see `ledger::turn`).

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod faults {
    mod caches;
    mod crash;
    mod drain;
    mod failover;
    mod kinds;
    mod late;
    mod ledger;
    mod outage;
    mod partition;
    mod pause;
    mod persistence;
    mod reads;
    mod traffic;
}
