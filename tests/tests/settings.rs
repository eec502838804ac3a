//! What operators change while the cluster runs, and what they see of it: settings, maintenance, requests under way, the
//! stream of events, the log, what a process is doing. Tests are named by the row of the requirements that they stand for.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod settings {
    mod actors;
    mod bad_input;
    mod database;
    mod embedded;
    mod events;
    mod filter;
    mod logs;
    mod maintenance;
    mod requests;
    mod stage;
}
