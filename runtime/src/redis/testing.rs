//! Real Redis servers for the tests of this crate: children of the test process, gone when dropped.
