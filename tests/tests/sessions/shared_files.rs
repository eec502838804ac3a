//! Files that every node sees: whole or not there, whichever node is asked, and whatever becomes of the one that writes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use understudy_tests::servers::Scratch;
use understudy_tests::{Answer, Client, Cluster, crowd, oracle, wait};

const OPERATOR: &str = "files-operator-token-of-the-tests";
const LIMIT: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;
/// How large a file is that must not be in memory, in MiB, and by how much memory may grow.
const LARGE: usize = 40;
const GROWTH: u64 = 32 << 20;

fn count(cluster: &Cluster, sql: &str) -> u64 {
    cluster.postgres.query(sql).trim().parse().expect("a number")
}

async fn upload(client: &Client, url: &str, query: &str, content: Vec<u8>) -> Answer {
    let put = client.build(reqwest::Method::PUT, url, &format!("/shared?name={query}"));
    client.send(put.body(content)).await.unwrap()
}

async fn download(client: &Client, url: &str, name: &str) -> Answer {
    client.get(url, &format!("/shared?name={name}")).await.unwrap()
}

async fn names(client: &Client, url: &str) -> Vec<String> {
    let told: Value = client.get(url, "/shared-files").await.unwrap().expect(200).json();
    let files = told["files"].as_array().unwrap();
    files.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect()
}

/// Text of so many bytes, no two pieces of which are the same.
fn text(bytes: usize) -> String {
    let lines = (0..).map(|number: u32| format!("{number:09}\n"));
    lines.take(bytes.div_ceil(10)).collect::<String>()[..bytes].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_every_node_sees_a_file_and_one_that_dies_while_it_writes_leaves_nothing_half() {
    let scratch = Scratch::new("files");
    let mount = scratch.join("mount");
    std::fs::create_dir(&mount).unwrap();
    let mut cluster = Cluster::builder()
        .nodes(2)
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
        .env("UNDERSTUDY_HTTP_BODY_LIMIT_BYTES", "104857600")
        .env("UNDERSTUDY_FILES_MAX_FILE_BYTES", "60000000")
        .env("UNDERSTUDY_FILES_DIR", &mount.display().to_string())
        .start()
        .await;
    every_node_sees_it(&cluster).await;
    one_of_many_makes_it(&cluster).await;
    a_large_one_is_in_memory_nowhere(&cluster).await;
    a_node_is_killed_while_it_writes(&mut cluster).await;
    what_is_left_is_removed(&cluster).await;
    cluster.nodes[0].set_env("UNDERSTUDY_FILES_STORE", "folder");
    cluster.restart(0).await;
    another_store_is_read_all_the_same(&cluster, &mount).await;
    a_node_without_its_folder_serves_nobody(&cluster, &mount).await;
    operators_see_how_much_is_where(&cluster).await;
    what_nobody_uses_is_removed(&cluster).await;
}

async fn every_node_sees_it(cluster: &Cluster) {
    let (client, long) = (Client::new(), text(700_000));
    let mut wrong = 0;
    for (from, to, content) in [(0, 1, "short"), (1, 0, long.as_str()), (0, 1, "")] {
        let bytes = content.as_bytes().to_vec();
        let put: Value = upload(&client, cluster.url(from), "name", bytes).await.expect(200).json();
        assert_eq!(put["bytes"], content.len());
        for node in [from, to] {
            let got = download(&client, cluster.url(node), "name").await.expect(200);
            wrong += usize::from(got.text != content);
            let etag = format!("\"{}\"", put["version"].as_str().unwrap());
            assert_eq!(got.header("etag"), Some(etag.as_str()));
            let again = client.build(reqwest::Method::GET, cluster.url(node), "/shared?name=name");
            let again = client.send(again.header("if-none-match", etag)).await.unwrap();
            assert_eq!((again.status, again.text.as_str()), (304, ""));
        }
    }
    oracle!("answers that are not what was written just before, of 6", wrong, 0);
    upload(&client, cluster.url(0), "name", long.clone().into_bytes()).await.expect(200);
    let part = client.build(reqwest::Method::GET, cluster.url(1), "/shared?name=name");
    let part = client.send(part.header("range", "bytes=262140-262149")).await.unwrap();
    let part = part.expect(206);
    assert_eq!(part.text, long[262_140..262_150]);
    assert_eq!(part.header("content-range"), Some("bytes 262140-262149/700000"));
    assert_eq!(part.header("content-type"), Some("application/octet-stream"));
    assert_eq!(names(&client, cluster.url(1)).await, ["name"]);
    let refused = upload(&client, cluster.url(0), "a%2Fb", Vec::new()).await.expect(422);
    let refused: Value = refused.json();
    assert_eq!((&refused["code"], &refused["field"]), (&json!("file_bad_name"), &json!("name")));
}

async fn one_of_many_makes_it(cluster: &Cluster) {
    let client = Client::new();
    let made = crowd(8, 16, async |number| {
        let content = format!("{number:02}").repeat(1_000).into_bytes();
        upload(&client, cluster.url(number % 2), "lock&absent=true", content).await.status
    })
    .await;
    oracle!("uploads of 16 that made the file", made.iter().filter(|it| **it == 200).count(), 1);
    assert!(made.iter().all(|status| matches!(status, 200 | 412)), "{made:?}");
    let path = "/shared?name=lock";
    client.delete(cluster.url(1), path).await.unwrap().expect(200);
    download(&client, cluster.url(0), "lock").await.expect(404);
}

/// Memory of a process now.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}

async fn a_large_one_is_in_memory_nowhere(cluster: &Cluster) {
    let (client, pid) = (Client::with_timeout(LIMIT * 3), cluster.nodes[0].pid());
    let (before, most) = (resident(pid), Arc::new(AtomicU64::new(0)));
    let line = text(MIB).into_bytes();
    let watched = Arc::clone(&most);
    let pieces = stream::iter((0..LARGE).map(move |_| {
        watched.fetch_max(resident(pid), Ordering::Relaxed);
        Ok::<_, io::Error>(line.clone())
    }));
    let put = client.build(reqwest::Method::PUT, cluster.url(0), "/shared?name=large");
    let put = put.body(reqwest::Body::wrap_stream(pieces));
    let told: Value = client.send(put).await.unwrap().expect(200).json();
    assert_eq!(told["bytes"], LARGE * MIB);
    let got = client.build(reqwest::Method::GET, cluster.url(0), "/shared?name=large");
    let mut got = got.send().await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = got.chunk().await.unwrap() {
        bytes += piece.len();
        most.fetch_max(resident(pid), Ordering::Relaxed);
    }
    oracle!("bytes that came back", bytes, LARGE * MIB);
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    oracle!("bytes by which the memory of the node grew", grown, <= GROWTH);
    client.delete(cluster.url(1), "/shared?name=large").await.unwrap().expect(200);
}

async fn a_node_is_killed_while_it_writes(cluster: &mut Cluster) {
    const WRITTEN: &str = "SELECT count(*) FROM us_file_piece piece JOIN us_file file \
        ON file.id = piece.file WHERE file.state = 'writing'";
    let client = Client::new();
    upload(&client, cluster.url(1), "kept", text(600_000).into_bytes()).await.expect(200);
    let (feed, fed) = mpsc::channel::<Result<Vec<u8>, io::Error>>(1);
    let body =
        stream::unfold(fed, |mut fed: mpsc::Receiver<Result<Vec<u8>, io::Error>>| async move {
            let next = fed.recv().await?;
            Some((next, fed))
        });
    let put = client.build(reqwest::Method::PUT, cluster.url(0), "/shared?name=kept");
    let put = tokio::spawn(put.body(reqwest::Body::wrap_stream(body)).send());
    feed.send(Ok(vec![b'x'; 600_000])).await.unwrap();
    wait::until("a part of it is written", LIMIT, async || count(cluster, WRITTEN) >= 2).await;
    cluster.kill9(0);
    assert!(put.await.unwrap().is_err());
    let got = download(&client, cluster.url(1), "kept").await.expect(200);
    oracle!("files of which a part is seen", usize::from(got.text != text(600_000)), 0);
    assert_eq!(names(&client, cluster.url(1)).await, ["kept", "name"]);
    oracle!("parts that nobody sees", count(cluster, WRITTEN), >= 2);
}

/// What takes ten minutes otherwise: nothing was heard of it for long, and nobody reads it any more.
async fn what_is_left_is_removed(cluster: &Cluster) {
    const LEFT: &str = "SELECT count(*) FROM us_file_piece WHERE file NOT IN \
        (SELECT id FROM us_file WHERE state = 'ready')";
    let operator = Client::new().bearing(OPERATOR);
    let limit = Duration::from_secs(120);
    wait::poll("the leader has removed it", limit, Duration::from_secs(1), async || {
        cluster.postgres.query("UPDATE us_file SET touched_ms = 0 WHERE state <> 'ready'");
        let path = "/v1/jobs/system.files-sweep/run";
        // Refused while a run is under way, or nobody leads.
        drop(operator.post_json(cluster.nodes[1].admin_url(), path, &json!({})).await);
        (count(cluster, LEFT) == 0).then_some(())
    })
    .await;
    let client = Client::new();
    let kept = download(&client, cluster.url(1), "kept").await.expect(200);
    oracle!("living files that were removed", usize::from(kept.text != text(600_000)), 0);
}

async fn another_store_is_read_all_the_same(cluster: &Cluster, mount: &Path) {
    let client = Client::new();
    let content = text(2_500_000);
    upload(&client, cluster.url(0), "moved", content.clone().into_bytes()).await.expect(200);
    let shelves = std::fs::read_dir(mount.join("data")).unwrap();
    oracle!("files in the folder", shelves.count(), 1);
    let mut wrong = 0;
    for node in 0..2 {
        let got = download(&client, cluster.url(node), "moved").await.expect(200);
        wrong += usize::from(got.text != content);
        let kept = download(&client, cluster.url(node), "kept").await.expect(200);
        wrong += usize::from(kept.text != text(600_000));
    }
    oracle!("files in two stores that a node does not read, of 4", wrong, 0);
}

async fn a_node_without_its_folder_serves_nobody(cluster: &Cluster, mount: &Path) {
    let client = Client::new();
    let ready = async |node: usize| {
        client.get(cluster.nodes[node].admin_url(), "/health/ready").await.unwrap()
    };
    let away = mount.with_extension("away");
    std::fs::rename(mount, &away).unwrap();
    std::fs::create_dir(mount).unwrap();
    wait::until("the node that needs it says so", LIMIT, async || {
        let told = ready(0).await;
        told.status == 503 && told.text.contains("files")
    })
    .await;
    upload(&client, cluster.url(0), "lost", b"lost".to_vec()).await.expect(503);
    oracle!(
        "files that were written where nobody finds them",
        std::fs::read_dir(mount).unwrap().count(),
        0
    );
    ready(1).await.expect(200); // its files go to the database
    std::fs::remove_dir(mount).unwrap();
    std::fs::rename(&away, mount).unwrap();
    wait::until("it is back", LIMIT, async || ready(0).await.status == 200).await;
    upload(&client, cluster.url(0), "found", b"found".to_vec()).await.expect(200);
}

async fn operators_see_how_much_is_where(cluster: &Cluster) {
    let operator = Client::new().bearing(OPERATOR);
    let url = cluster.nodes[1].admin_url();
    let told: Value = operator.get(url, "/v1/files").await.unwrap().expect(200).json();
    assert_eq!(
        (&told["spaces"][0]["name"], &told["spaces"][0]["files"]),
        (&json!("shared"), &json!(4))
    );
    let told: Value =
        operator.get(url, "/v1/files/shared?limit=2").await.unwrap().expect(200).json();
    assert_eq!(told["next"], "kept");
    let next = operator.get(url, "/v1/files/shared?after=kept").await.unwrap().expect(200);
    assert_eq!(next.json::<Value>()["files"].as_array().unwrap().len(), 2);
    let checked = operator.post_json(url, "/v1/files/shared/moved/check", &json!({})).await;
    assert_eq!(checked.unwrap().expect(200).json::<Value>()["intact"], true);
    operator.get(url, "/v1/files/shared/..%2fx").await.unwrap().expect(422);
    operator.delete(url, "/v1/files/shared/moved").await.unwrap().expect(200);
    operator.delete(url, "/v1/files/shared/moved").await.unwrap().expect(404);
    download(&Client::new(), cluster.url(0), "moved").await.expect(404);
}

async fn what_nobody_uses_is_removed(cluster: &Cluster) {
    const READY: &str = "SELECT count(*) FROM us_file WHERE state = 'ready'";
    let (client, operator) = (Client::new(), Client::new().bearing(OPERATOR));
    let url = cluster.nodes[1].admin_url();
    cluster.postgres.query(
        "INSERT INTO us_file_reference (space, name, kind, owner, created_ms) \
         VALUES ('shared', 'kept', 'order', '4812', 0)",
    );
    cluster.postgres.query(
        "INSERT INTO us_file_rule (name, unused_ms, since_ms, shares) VALUES ('shared', 0, 0, 0)",
    );
    let told: Value = operator.get(url, "/v1/files-orphans").await.unwrap().expect(200).json();
    let listed = told["orphans"].as_array().unwrap();
    assert!(listed.iter().all(|orphan| orphan["name"] != "kept"), "{told}");
    assert_eq!(told["rules"][0]["space"], "shared");
    let collect = "/v1/files-orphans/collect";
    let dry = operator.post_json(url, &format!("{collect}?dry_run=true"), &json!({})).await;
    let dry: Value = dry.unwrap().expect(200).json();
    assert_eq!((&dry["dry_run"], &dry["removed"]), (&json!(true), &json!(0)));
    let limit = Duration::from_secs(120);
    wait::poll("the leader has removed them", limit, Duration::from_secs(1), async || {
        // Refused while a run is under way, or nobody leads.
        drop(operator.post_json(url, "/v1/jobs/system.files-orphans/run", &json!({})).await);
        (count(cluster, READY) <= 1).then_some(())
    })
    .await;
    let kept = download(&client, cluster.url(1), "kept").await.expect(200);
    oracle!(
        "f6: files with a reference that were removed",
        usize::from(kept.text != text(600_000)),
        0
    );
    let done: Value =
        operator.post_json(url, collect, &json!({})).await.unwrap().expect(200).json();
    oracle!("f6: orphans that are left", done["orphans"], json!(0));
    operator.get(url, "/v1/files-orphans?after=shared").await.unwrap().expect(400);
}
