//! Files in each of their stores, with a real server of S3, a folder that can be unmounted and full, and nodes that are killed
//! at the very line: every node sees all of a file or the one before, and nothing is left behind.
//!
//! One cluster stands for all of it: each of its nodes writes to another store, and reads from all.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod files {
    mod broken;
    mod content;
    mod contract;
    mod everywhere;
    mod killed;
    mod memory;
    mod stage;
    mod trouble;
}
