//! Input that nobody sends who means well, over sockets where a client would tidy it up. Each test names the row of the
//! list of bad inputs that it stands for; the node must refuse, stay well, and tell nothing.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod bad_input {
    mod administration;
    mod bodies;
    mod cookies;
    mod elsewhere;
    mod files;
    mod forwarding;
    mod framing;
    mod heads;
    mod hosts;
    mod logs;
    mod options;
    mod ranges;
    mod records;
    mod slow;
    mod wire;
}
