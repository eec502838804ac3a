//! The command line towards whole clusters: what an operator types, and what comes of it.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod cli {
    mod alone;
    mod cluster;
    mod files;
    mod typed;
}
