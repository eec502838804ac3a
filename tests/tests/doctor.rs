//! What operators are told without asking, and when they ask: problems, drift, the doctor. Each is proven by breaking what
//! it is about, on real servers. Tests are named by the row of the requirements that they stand for.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod doctor {
    mod around;
    mod balancer;
    mod clocks;
    mod database;
    mod drift;
    mod ground;
    mod machine;
    mod redis;
    mod refused;
    mod scheduler;
}
