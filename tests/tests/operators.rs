//! What operators do with nodes, on whole clusters behind nginx: taking one out of service, restarting it, restarting all
//! of them; and that nobody notices.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod operators {
    #[path = "../faults/ledger.rs"]
    #[expect(dead_code, reason = "other binaries use the rest")]
    mod ledger;
    mod nodes;
    mod rolling;
    #[path = "../scheduler/stage.rs"]
    #[expect(dead_code, reason = "other binaries use the rest")]
    mod stage;
    mod supervisor;
    #[path = "../faults/traffic.rs"]
    #[expect(dead_code, reason = "other binaries use the rest")]
    mod traffic;
}
