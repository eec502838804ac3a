//! Traces: one request, whatever nodes and jobs have a part in it, is one trace, in the log and at a collector.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod traces {
    mod collector;
    mod exported;
    mod off;
    mod trouble;
}
