//! What is shipped beside the program, for those who run it: balancer files, a service, a container, manifests, alerts,
//! a dashboard, and pages. All of it is parsed, checked against the program, and started where that is possible.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod deploy {
    mod balancers;
    mod cardinality;
    mod compose;
    mod files;
    mod haproxy;
    mod kubernetes;
    #[path = "../faults/ledger.rs"]
    #[expect(dead_code, reason = "what faults need of it is more than what is needed here")]
    mod ledger;
    mod limits;
    mod metrics;
    mod monitoring;
    mod notify;
    mod pages;
    mod promql;
    mod systemd;
    #[path = "../harness/tiny.rs"]
    #[expect(dead_code, reason = "what the harness needs of it is more than what is needed here")]
    mod tiny;
    #[path = "../faults/traffic.rs"]
    #[expect(dead_code, reason = "what faults need of it is more than what is needed here")]
    mod traffic;
    mod yaml;
}
