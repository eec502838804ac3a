//! The made-up node on a thread of its own, and somebody in a browser who looks at it.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use understudy_runtime::admin::Role;

use super::devtools::Browser;
use super::stub::{Mood, Stub, TOKENS};

/// The made-up node; it is there until the test process ends.
pub(super) fn node(mood: Mood) -> Arc<Stub> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let stub = Arc::new(Stub::start(mood));
            sender.send(Arc::clone(&stub)).expect("the test waits");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("it starts")
}

/// A browser in which somebody of this role has signed in.
pub(super) fn signed_in(origin: &str, token: &str) -> Browser {
    let mut browser = Browser::open();
    browser.visit(&format!("{origin}/console"));
    assert!(browser.text("location.pathname").ends_with("/console/login"));
    browser.run(&format!("document.getElementById('token').value = '{token}'"));
    browser.follow("document.querySelector('form button').click()");
    assert_eq!(browser.text("location.pathname"), "/console");
    browser
}

/// The token of a role.
pub(super) fn token(role: Role) -> &'static str {
    let found = TOKENS.iter().find(|(known, _)| *known == role);
    found.map(|(_, token)| *token).expect("each role has one")
}

/// Where pictures are kept.
pub(super) fn pictures() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    folder
}
