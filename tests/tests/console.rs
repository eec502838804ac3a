//! The web console in a real browser: with a made-up API that has something of everything, and on a real node.
//!
//! Pictures of all pages are kept in `target/tmp/console`, for a person to look at.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod console {
    mod away;
    mod axe;
    mod devtools;
    mod flow;
    mod looks;
    mod node;
    mod stage;
    #[path = "../../../src/console/stub.rs"]
    mod stub;

    use understudy::console::{Backstage, Console};
}
