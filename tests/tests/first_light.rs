//! What a stranger sees who has nothing but the binary: a page, a session API, and a counter that is still there after
//! whatever happened to the node.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod first_light {
    mod alone;
    mod api;
    mod browser;
    mod command_line;
    mod cross_site;
    mod page;
    mod survival;
    mod values;
    mod web_root;
}
