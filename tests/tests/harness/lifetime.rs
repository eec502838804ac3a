//! Nothing outlives a test: not a dropped handle, not a killed test process.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use understudy_tests::{Nginx, Postgres, Redis, servers, wait};

const LIMIT: Duration = Duration::from_secs(20);
const ANNOUNCEMENT: &str = "UNDERSTUDY_TESTS_ANNOUNCE";

/// True while something listens; a zombie does not.
fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_is_gone_with_its_files() {
    let (redis, postgres) = tokio::join!(Redis::sentinel(), Postgres::start());
    let ports = [redis.primary_port(), postgres.port()];
    assert!(ports.into_iter().all(listens));
    drop((redis, postgres));
    assert!(!ports.into_iter().any(listens));
}

#[test]
fn a_port_is_given_out_only_once() {
    let mut ports: Vec<u16> = (0..50).map(|_| servers::free_port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
}

/// What the process does that is going to be killed: starts servers, writes down where they are, and waits.
async fn wait_for_the_end(announcement: &Path) {
    let (redis, postgres, nginx) =
        tokio::join!(Redis::standalone(), Postgres::start(), Nginx::start(&[1]));
    let folder = servers::Scratch::new("announced");
    let root = folder.path().parent().unwrap().display().to_string();
    let nginx_port = nginx.url().rsplit(':').next().unwrap().to_owned();
    let text = format!("{root} {} {} {nginx_port}", redis.primary_port(), postgres.port());
    let draft = announcement.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, announcement).unwrap();
    std::future::pending::<()>().await;
}

/// This test runs in two processes: it starts itself once more, and finds in its environment that it is the second.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_test_leaves_no_server_and_no_file_behind() {
    const NAME: &str = "harness::lifetime::a_killed_test_leaves_no_server_and_no_file_behind";
    if let Some(file) = std::env::var_os(ANNOUNCEMENT) {
        return wait_for_the_end(Path::new(&file)).await;
    }
    let folder = servers::Scratch::new("announcement");
    let file = folder.join("ports");
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(ANNOUNCEMENT, &file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let (text, _) = wait::until_some("the servers of the other process run", LIMIT, async || {
        std::fs::read_to_string(&file).ok()
    })
    .await;
    let mut words = text.split(' ');
    let root = words.next().unwrap();
    let ports: Vec<u16> = words.map(|port| port.parse().unwrap()).collect();
    assert_eq!(ports.len(), 3);
    assert!(ports.iter().all(|port| listens(*port)));
    // As a runner does that loses patience: everything of the group, without a chance to clean up.
    let group = rustix::process::Pid::from_child(&test);
    rustix::process::kill_process_group(group, servers::Signal::KILL).unwrap();
    test.wait().unwrap();
    wait::until("all servers of the killed process are gone", LIMIT, async || {
        !ports.iter().any(|port| listens(*port))
    })
    .await;
    wait::until("its directory is gone", LIMIT, async || !Path::new(root).exists()).await;
}
