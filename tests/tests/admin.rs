//! The administration API as a whole: who may do what, what is written down of it, and whether its faces agree.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod admin {
    mod audit;
    mod faces;
    mod fuzzing;
    mod openapi;
    mod repeated;
    mod roles;
    mod stage;
    mod tokens;
}
