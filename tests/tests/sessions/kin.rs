//! Child sessions and temporary files: one for all nodes, and gone with their session, however that ends.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, crowd, oracle, wait};

use super::visitor::{counter, logged_in, value, whoami};

const OPERATOR: &str = "kin-operator-token-of-the-tests";
const LIMIT: Duration = Duration::from_secs(30);
/// The tables of what hangs on sessions.
const ROWS: &str = "SELECT (SELECT count(*) FROM us_session_kin) + (SELECT count(*) FROM us_session_child) \
     + (SELECT count(*) FROM us_session_file) + (SELECT count(*) FROM us_session_file_chunk)";

#[derive(Debug, Deserialize)]
struct Refused {
    code: String,
    limit_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Sessions {
    sessions: Vec<Begun>,
}

/// A session as operators see it.
#[derive(Debug, Deserialize)]
struct Begun {
    user: Option<String>,
    epoch: u64,
    created_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Counted {
    anonymous: u64,
    children: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Files {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    name: String,
    bytes: u64,
}

/// How many rows there are of what hangs on sessions.
fn rows(cluster: &Cluster) -> u64 {
    cluster.postgres.query(ROWS).trim().parse().expect("a number")
}

async fn child(client: &Client, url: &str, name: &str) -> Value {
    let answer = client.get(url, &format!("/child/read?name={name}")).await.unwrap();
    value(&answer.expect(200))
}

async fn upload(client: &Client, url: &str, name: &str, content: Vec<u8>) -> Answer {
    let put = client.build(reqwest::Method::PUT, url, &format!("/file?name={name}"));
    client.send(put.body(content)).await.unwrap()
}

async fn download(client: &Client, url: &str, name: &str) -> Answer {
    client.get(url, &format!("/file?name={name}")).await.unwrap()
}

async fn files(client: &Client, url: &str) -> Vec<(String, u64)> {
    let answer = client.get(url, "/files").await.unwrap().expect(200);
    answer.json::<Files>().files.into_iter().map(|file| (file.name, file.bytes)).collect()
}

/// Text of so many bytes, no two pieces of which are the same.
fn text(bytes: usize) -> String {
    let lines = (0..).map(|number: u32| format!("{number:09}\n"));
    lines.take(bytes.div_ceil(10)).collect::<String>()[..bytes].to_owned()
}

/// A browser with a session on which a child and a file hang.
async fn with_kin(cluster: &Cluster, user: &str) -> Client {
    let client = logged_in(cluster.url(0), user).await;
    hang_kin(cluster, &client).await;
    client
}

/// Hangs a child and a file on a session.
async fn hang_kin(cluster: &Cluster, client: &Client) {
    client.post(cluster.url(0), "/child/incr?name=flow").await.unwrap().expect(200);
    upload(client, cluster.url(1), "note", b"text".to_vec()).await.expect(200);
    assert_eq!(child(client, cluster.url(1), "flow").await, 1);
    assert_eq!(download(client, cluster.url(2), "note").await.expect(200).text, "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_children_and_files_end_with_their_session_however_it_ends() {
    // With a copy in the database, which knows of ends for longer than Redis; and without Redis.
    for (store, persist) in [("redis", "write_behind"), ("database", "off")] {
        let cluster = Cluster::builder()
            .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
            .env("UNDERSTUDY_SESSION_STORE", store)
            .env("UNDERSTUDY_SESSION_PERSIST", persist)
            .env("UNDERSTUDY_SESSION_TOUCH_S", "1")
            .env("UNDERSTUDY_SESSION_MAX_FILE_BYTES", "800000")
            .env("UNDERSTUDY_SESSION_MAX_FILES_BYTES", "1500000")
            .start()
            .await;
        children_are_sessions(&cluster).await;
        files_are_read_at_every_node(&cluster).await;
        they_end_with_their_session(&cluster).await;
        they_time_out_with_their_session(&cluster).await;
        the_next_user_sees_nothing(&cluster).await;
        if persist != "off" {
            what_saves_is_supervised(&cluster).await;
        }
    }
}

/// What brings sessions to the database is started again when it panics.
async fn what_saves_is_supervised(cluster: &Cluster) {
    let (operator, url) = (Client::new().bearing(OPERATOR), cluster.nodes[0].admin_url());
    // A node that has much to do may not say in time what it does.
    wait::until("all nodes tell of what saves", LIMIT, async || {
        let told: Value = operator.get(url, "/v1/actors").await.unwrap().expect(200).json();
        let tasks = told["tasks"].as_array().expect("a list");
        tasks.iter().filter(|task| task["name"] == "session-saver").count() == 3
    })
    .await;
}

async fn children_are_sessions(cluster: &Cluster) {
    const EACH: usize = 20;
    let nobody = Client::new();
    assert_eq!(child(&nobody, cluster.url(0), "a").await, Value::Null);
    let refused = nobody.post(cluster.url(0), "/child/incr?name=a").await.unwrap().expect(409);
    assert_eq!(refused.json::<Refused>().code, "session_none");
    let client = logged_in(cluster.url(0), "ann").await;
    for node in 0..3 {
        assert_eq!(child(&client, cluster.url(node), "a").await, Value::Null, "it did not begin");
    }
    // All nodes begin it at once, and look at it.
    let paths = ["/child/incr?name=a", "/child/update?name=a", "/child/incr?name=b"];
    crowd(12, EACH * 3, async |number| {
        let url = cluster.url(number / 3 % 3);
        client.post(url, paths[number % 3]).await.unwrap().expect(200);
    })
    .await;
    let mut wrong = 0;
    for node in 0..3 {
        let url = cluster.url(node);
        wrong += usize::from(child(&client, url, "a").await != 2 * EACH);
        wrong += usize::from(child(&client, url, "b").await != EACH);
        wrong += usize::from(counter(&client, url).await.is_some());
    }
    oracle!("counters of two children and their parent that are wrong, of 9", wrong, 0);
    operators_tell_children_from_visitors(cluster).await;
    client.post(cluster.url(1), "/child/end?name=a").await.unwrap().expect(204);
    for node in 0..3 {
        assert_eq!(child(&client, cluster.url(node), "a").await, Value::Null, "it was ended");
        assert_eq!(child(&client, cluster.url(node), "b").await, EACH, "the other stays");
        assert_eq!(whoami(&client, cluster.url(node)).await.as_deref(), Some("ann"));
    }
    wait::until("the child that was ended counts no more", LIMIT, async || {
        rows_of_children(cluster) == 1
    })
    .await;
    // Each session may have so many.
    for number in 0..31 {
        let path = format!("/child/incr?name=child-{number}");
        client.post(cluster.url(number % 3), &path).await.unwrap().expect(200);
    }
    oracle!("children that are noted", rows_of_children(cluster), 32);
    let refused = client.post(cluster.url(0), "/child/incr?name=more").await.unwrap().expect(409);
    assert_eq!(refused.json::<Refused>().code, "session_too_many_children");
    client.post(cluster.url(2), "/logout").await.unwrap().expect(204);
}

/// There is a session with a user, and on it hang two children.
async fn operators_tell_children_from_visitors(cluster: &Cluster) {
    let (operator, url) = (Client::new().bearing(OPERATOR), cluster.nodes[0].admin_url());
    let page = operator.get(url, "/v1/sessions?limit=100").await.unwrap();
    let begun = page.expect(200).json::<Sessions>().sessions.into_iter();
    let begun: Vec<Begun> = begun.filter(|session| session.user.is_none()).collect();
    // A copy of one that ended has a lower epoch: those of before began more than a minute earlier.
    let low = begun.iter().filter(|child| child.epoch + 30_000 < child.created_ms).count();
    oracle!("children that operators see", begun.len(), 2);
    oracle!("children whose epoch one of before may have had", low, 0);
    let count = operator.get(url, "/v1/sessions/count").await.unwrap().expect(200);
    let count: Counted = count.json();
    oracle!("children counted", count.children.expect("the database is there"), 2);
    oracle!("children counted as visitors", count.anonymous, 0);
}

fn rows_of_children(cluster: &Cluster) -> u64 {
    let sql = "SELECT count(*) FROM us_session_child";
    cluster.postgres.query(sql).trim().parse().expect("a number")
}

async fn files_are_read_at_every_node(cluster: &Cluster) {
    let client = logged_in(cluster.url(0), "bob").await;
    let (large, small) = (text(700_000), text(10));
    for (content, name) in
        [(&small, "large"), (&large, "large"), (&small, "small"), (&String::new(), "empty")]
    {
        upload(&client, cluster.url(0), name, content.clone().into_bytes()).await.expect(200);
    }
    for node in 0..3 {
        let url = cluster.url(node);
        let found = download(&client, url, "large").await.expect(200);
        assert!(found.text == large, "it is what was put there");
        assert_eq!(found.header("content-type"), Some("text/x-canary"));
        assert_eq!(found.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(found.header("content-disposition"), Some("attachment"));
        assert_eq!(download(&client, url, "small").await.expect(200).text, small);
        assert_eq!(download(&client, url, "empty").await.expect(200).text, "");
        download(&client, url, "absent").await.expect(404);
        download(&Client::new(), url, "large").await.expect(404);
        let names = [("empty", 0), ("large", 700_000), ("small", 10)];
        assert_eq!(files(&client, url).await, names.map(|(name, bytes)| (name.to_owned(), bytes)));
    }
    let refused = upload(&client, cluster.url(1), "more", vec![b'x'; 800_001]).await.expect(413);
    let refused: Refused = refused.json();
    assert_eq!(
        (refused.code.as_str(), refused.limit_bytes),
        ("session_file_too_large", Some(800_000))
    );
    upload(&client, cluster.url(1), "more", vec![b'x'; 750_000]).await.expect(200);
    let refused = upload(&client, cluster.url(2), "most", vec![b'x'; 60_000]).await.expect(413);
    let refused: Refused = refused.json();
    assert_eq!(
        (refused.code.as_str(), refused.limit_bytes),
        ("session_files_too_large", Some(1_500_000))
    );
    let refused = upload(&client, cluster.url(0), "a%2Fb", Vec::new()).await.expect(422);
    assert_eq!(refused.json::<Refused>().code, "session_bad_file_name");
    let delete = client.build(reqwest::Method::DELETE, cluster.url(1), "/file?name=more");
    client.send(delete).await.unwrap().expect(200);
    wait::until("what was refused leaves nothing, and there is room again", LIMIT, async || {
        let answer = upload(&client, cluster.url(2), "more", vec![b'y'; 750_000]).await;
        answer.status == 200
    })
    .await;
    assert_eq!(download(&client, cluster.url(0), "more").await.expect(200).text.len(), 750_000);
    client.post(cluster.url(0), "/logout").await.unwrap().expect(204);
}

async fn they_end_with_their_session(cluster: &Cluster) {
    let operator = Client::new().bearing(OPERATOR);
    let mut left = Vec::new();
    for way in ["logout", "operator", "user"] {
        let client = with_kin(cluster, "eve").await;
        let before = client.fork();
        match way {
            "logout" => {
                client.post(cluster.url(2), "/logout").await.unwrap().expect(204);
            }
            "operator" => {
                let path = "/v1/users/eve/sessions";
                operator.delete(cluster.nodes[1].admin_url(), path).await.unwrap().expect(200);
            }
            _ => {
                let other = logged_in(cluster.url(1), "eve").await;
                other.post(cluster.url(2), "/end-others").await.unwrap().expect(200);
            }
        }
        for node in 0..3 {
            // At once, on every node.
            assert_eq!(child(&before, cluster.url(node), "flow").await, Value::Null, "{way}");
            download(&before, cluster.url(node), "note").await.expect(404);
        }
        wait::until("all that hung on it is removed", LIMIT, async || rows(cluster) == 0).await;
        left.push(rows(cluster));
    }
    oracle!("rows left after three ends", left.iter().sum::<u64>(), 0);
}

/// Nobody uses the session, and nobody asks after it meanwhile, which would be a use.
async fn they_time_out_with_their_session(cluster: &Cluster) {
    const IDLE: Duration = Duration::from_secs(8);
    /// A use is noted at most this often, so the end may be so much earlier.
    const TOUCH: Duration = Duration::from_secs(1);
    const SLACK: Duration = Duration::from_millis(500);
    let client = Client::new();
    let login = "/login-long?user=eve&idle_s=8";
    client.post(cluster.url(0), login).await.unwrap().expect(204);
    let used = Instant::now();
    hang_kin(cluster, &client).await;
    let limit = Duration::from_secs(90);
    wait::until("all that hung on it is removed", limit, async || rows(cluster) == 0).await;
    let after = used.elapsed().as_millis();
    oracle!("went after, ms", after, >= (IDLE - TOUCH - SLACK).as_millis());
    let mut found = 0;
    for node in 0..3 {
        found += usize::from(child(&client, cluster.url(node), "flow").await != Value::Null);
        found += usize::from(download(&client, cluster.url(node), "note").await.status != 404);
    }
    oracle!("children and files of a session that timed out", found, 0);
}

async fn the_next_user_sees_nothing(cluster: &Cluster) {
    let visitor = Client::new();
    visitor.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    visitor.post(cluster.url(0), "/child/incr?name=flow").await.unwrap().expect(200);
    upload(&visitor, cluster.url(1), "note", b"text".to_vec()).await.expect(200);
    visitor.post(cluster.url(1), "/login?user=ann").await.unwrap().expect(204);
    assert_eq!(child(&visitor, cluster.url(2), "flow").await, 1, "a login keeps what was begun");
    assert_eq!(files(&visitor, cluster.url(2)).await.len(), 1);
    visitor.post(cluster.url(2), "/login?user=bob").await.unwrap().expect(204);
    let mut seen = 0;
    for node in 0..3 {
        seen += usize::from(child(&visitor, cluster.url(node), "flow").await != Value::Null);
        seen += files(&visitor, cluster.url(node)).await.len();
        seen += usize::from(download(&visitor, cluster.url(node), "note").await.status != 404);
    }
    oracle!("of another user's children and files seen", seen, 0);
    visitor.post(cluster.url(0), "/logout").await.unwrap().expect(204);
    wait::until("those of both users are removed", LIMIT, async || rows(cluster) == 0).await;
}

/// The session ends, and the node that ended it dies before it has removed what hung on it: the leader finds it.
#[tokio::test(flavor = "multi_thread")]
async fn s16_what_a_node_left_when_it_died_is_found_by_the_leader() {
    let builder = Cluster::builder().env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR);
    let mut cluster = builder.start().await;
    let (left, stays) = (with_kin(&cluster, "ann").await, with_kin(&cluster, "bob").await);
    // Those that live: a tombstone stands for a while.
    let sessions = |cluster: &Cluster| {
        let keys = cluster.redis.all_keys().into_iter().filter(|key| key.contains(":s:"));
        let lives = |key: &String| cluster.redis.cli(&["HEXISTS", key, "st"]).trim() == "0";
        keys.filter(lives).collect::<Vec<String>>()
    };
    oracle!("sessions in Redis: two, each with a child", sessions(&cluster).len(), 4);
    // The owner is killed, and its session is gone from the store as if it had ended it just before.
    let locator = left.cookies().into_values().next().unwrap();
    let locator = locator.split('.').next().unwrap().to_owned();
    let key = sessions(&cluster).into_iter().find(|key| key.ends_with(&locator)).unwrap();
    cluster.kill9(0);
    cluster.redis.cli(&["DEL", &key]);
    for node in 1..3 {
        assert_eq!(child(&left, cluster.url(node), "flow").await, Value::Null, "out of reach");
        download(&left, cluster.url(node), "note").await.expect(404);
    }
    assert!(rows(&cluster) > 4, "it is still there");
    let operator = Client::new().bearing(OPERATOR);
    let limit = Duration::from_secs(120);
    wait::poll("the leader has found it", limit, Duration::from_secs(1), async || {
        let path = "/v1/jobs/system.session-kin/run";
        // Refused while a run is under way, or nobody leads.
        drop(operator.post_json(cluster.nodes[1].admin_url(), path, &serde_json::json!({})).await);
        (sessions(&cluster).len() == 2 && rows(&cluster) == 4).then_some(())
    })
    .await;
    oracle!("rows of what hangs on the session that lives", rows(&cluster), 4);
    assert_eq!(child(&stays, cluster.url(1), "flow").await, 1);
    assert_eq!(download(&stays, cluster.url(2), "note").await.expect(200).text, "text");
}
