//! Events for pages that are open, on whichever node.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Node, NodeSpec, Program, oracle, wait};

use super::stage::Stage;
use super::visitor::{begun, logged_in};

const LIMIT: Duration = Duration::from_secs(30);
/// How often a connection looks at its session by itself.
const QUIET: Duration = Duration::from_secs(15);

/// An open page, as a browser has it.
pub(super) struct Page {
    text: Arc<RwLock<String>>,
    reading: JoinHandle<()>,
}

/// What a page was told.
#[derive(Debug, Default)]
struct Told {
    name: String,
    data: String,
}

async fn listen(client: &Client, base: &str, last: Option<&str>) -> Response {
    let request = client.build(Method::GET, base, "/events").timeout(Duration::from_secs(600));
    let request = match last {
        Some(last) => request.header("last-event-id", last),
        None => request,
    };
    request.send().await.unwrap()
}

impl Page {
    /// Opens a page that is told what comes after `last`.
    pub(super) async fn open(client: &Client, base: &str, last: Option<&str>) -> Self {
        let mut answer = listen(client, base, last).await;
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with("text/event-stream"));
        assert_eq!(header("x-accel-buffering"), "no");
        let text = Arc::new(RwLock::new(String::new()));
        let heard = Arc::clone(&text);
        let reading = tokio::spawn(async move {
            while let Ok(Some(chunk)) = answer.chunk().await {
                heard.write().unwrap().push_str(&String::from_utf8_lossy(&chunk));
            }
        });
        let page = Self { text, reading };
        wait::until("the stream begins", LIMIT, async || page.last_id().is_some()).await;
        page
    }

    /// All that came whole; a browser throws away what did not.
    fn whole(&self) -> String {
        let text = self.text.read().unwrap();
        text.rfind("\n\n").map_or_else(String::new, |end| text[..end].to_owned())
    }

    /// What the browser says when it comes back.
    fn last_id(&self) -> Option<String> {
        let whole = self.whole();
        whole.lines().rev().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned)
    }

    fn told(&self) -> Vec<Told> {
        let whole = self.whole();
        let blocks = whole.split("\n\n").map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let text = |name: &str| field(name).unwrap_or_default().to_owned();
            Told { name: text("event: "), data: text("data: ") }
        });
        blocks.filter(|told| !told.name.is_empty()).collect()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        let told = self.told().into_iter().filter(|told| told.name == "number");
        told.map(|told| told.data.parse().unwrap()).collect()
    }

    fn resets(&self) -> usize {
        self.told().iter().filter(|told| told.name == "reset").count()
    }

    pub(super) async fn until_told(&self, count: usize) -> Duration {
        let what = format!("{count} events have come");
        wait::until(&what, LIMIT, async || self.numbers().len() >= count).await
    }

    /// Waits until the connection is closed from the other side.
    async fn until_closed(&self, limit: Duration) -> Duration {
        wait::until("the stream ends", limit, async || self.reading.is_finished()).await
    }
}

/// Tells numbers, by turns to the session and to its user.
async fn tell(client: &Client, base: &str, user: &str, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let to = if number % 2 == 0 { format!("&user={user}") } else { String::new() };
        client.post(base, &format!("/tell?n={number}{to}")).await.unwrap().expect(204);
    }
}

pub(super) async fn t11_a_page_misses_nothing_when_its_node_dies(stage: &Stage) {
    let mut cluster = stage.alone().await;
    let user = "t11-user";
    let client = logged_in(cluster.url(0), user).await;
    let stranger = logged_in(cluster.url(1), "t11-stranger").await;
    let elsewhere = Page::open(&stranger, cluster.url(2), None).await;
    let page = Page::open(&client, cluster.url(0), None).await;
    let told = Instant::now();
    tell(&client, cluster.url(1), user, 1..=10).await;
    page.until_told(10).await;
    oracle!("ms until ten events of another node have come", told.elapsed().as_millis(), within 10_000);
    let last = page.last_id().expect("something came");
    cluster.kill9(0);
    tell(&client, cluster.url(1), user, 11..=20).await;
    let again = Page::open(&client, cluster.url(2), Some(&last)).await;
    tell(&client, cluster.url(1), user, 21..=25).await;
    again.until_told(15).await;
    let all: Vec<u64> = page.numbers().into_iter().chain(again.numbers()).collect();
    let different: BTreeSet<u64> = all.iter().copied().collect();
    let missed = (1..=25).filter(|number| !different.contains(number)).count();
    oracle!("t11: events missed over the death of a node", missed, 0);
    oracle!("t11: events told twice", all.len() - different.len(), 0);
    oracle!("t11: pages told to read everything anew", page.resets() + again.resets(), 0);
    oracle!("t11: events that another user was told", elsewhere.told().len(), 0);
    let lost = Page::open(&client, cluster.url(2), Some("1-7")).await;
    wait::until("who asks for what is gone is told so", LIMIT, async || lost.resets() == 1).await;
    // Its owner is dead: this takes until the lease is over.
    client.fork().post(cluster.url(1), "/logout").await.unwrap().expect(204);
    let took = again.until_closed(LIMIT).await;
    oracle!("t11: ms until a logout elsewhere closed the page", took.as_millis(), within 5_000);
    lost.until_closed(LIMIT).await;
    client.post(cluster.url(1), &format!("/tell?n=26&user={user}")).await.unwrap().expect(204);
    oracle!("t11: events told after the logout", again.numbers().len(), 15);
    let refused = listen(&client, cluster.url(2), Some(&last)).await;
    oracle!("status of a page that comes back after it", refused.status().as_u16(), 401);
    assert!(!elsewhere.reading.is_finished(), "others stay");
    what_took_the_numbers_of_lost_events_is_not_missed(&cluster).await;
    cluster.restart(0).await;
}

/// What a failover leaves: streams that another server has added to, without the newest entry.
const LOSE_THE_NEWEST: &str = "
    if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
    local all = redis.call('XRANGE', KEYS[1], '-', '+')
    redis.call('DEL', KEYS[1])
    for i = 1, math.max(1, #all - 1) do
      local fields = all[i][2]
      if fields[#fields - 1] == 'r' then fields[#fields] = '0123456789abcdef' end
      redis.call('XADD', KEYS[1], all[i][1], unpack(fields))
    end
    return #all";

async fn what_took_the_numbers_of_lost_events_is_not_missed(cluster: &Cluster) {
    let user = "t11-failover";
    let client = logged_in(cluster.url(1), user).await;
    let page = Page::open(&client, cluster.url(1), None).await;
    tell(&client, cluster.url(1), user, 1..=2).await;
    page.until_told(2).await;
    let last = page.last_id().expect("something came");
    let keys = cluster.redis.all_keys().into_iter();
    let mut streams = 0;
    for key in keys.filter(|key| key.contains("}:t:") || key.ends_with("}:t")) {
        let entries = cluster.redis.cli(&["-c", "EVAL", LOSE_THE_NEWEST, "1", &key]);
        streams += usize::from(entries.trim() != "0");
    }
    oracle!("t11: streams of which the newest event was lost", streams, >= 2);
    // They have the numbers of those that were lost.
    tell(&client, cluster.url(1), user, 3..=4).await;
    let again = Page::open(&client, cluster.url(2), Some(&last)).await;
    wait::until("who may have missed events is told so", LIMIT, async || again.resets() > 0).await;
    wait::until("also who never left", LIMIT, async || page.resets() > 0).await;
    client.post(cluster.url(1), "/logout").await.unwrap().expect(204);
}

/// Without Redis; and what ends connections, and what does not.
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_page_of_a_node_alone_ends_with_its_session_and_with_the_node() {
    let spec = NodeSpec::new("alone").program(Program::Fixture);
    let spec = spec.env("UNDERSTUDY_SESSION_IDLE_S", "10").env("UNDERSTUDY_SESSION_TOUCH_S", "1");
    let mut node = spec.start();
    node.ready(LIMIT).await;
    let silent = begun(node.public_url()).await;
    let opened = Instant::now();
    let silent = Page::open(&silent, node.public_url(), None).await;
    told_and_bounded(&node).await;
    silent.until_closed(QUIET * 3).await;
    let took = opened.elapsed().as_millis();
    oracle!("t11: ms until a session ended that only a page had open", took, within 25_000);
    let client = logged_in(node.public_url(), "ann").await;
    let page = Page::open(&client, node.public_url(), None).await;
    an_upload_is_watched(&node, &client, &page).await;
    node.terminate();
    page.until_closed(LIMIT).await;
    let status = node.wait_exit(LIMIT).await;
    oracle!("exit status of a node with an open page", status.code().unwrap(), 0);
}

/// Somebody uploads a file, and their page hears how far it is.
async fn an_upload_is_watched(node: &Node, client: &Client, page: &Page) {
    let request = client.build(Method::PUT, node.public_url(), "/api/files/cv?upload=cv");
    client.send(request.body("x".repeat(50_000))).await.unwrap().expect(200);
    let states = || -> Vec<Value> {
        let told = page.told().into_iter().filter(|told| told.name == "upload");
        told.map(|told| serde_json::from_str(&told.data).unwrap()).collect()
    };
    let is_there = async || states().iter().any(|state| state["state"] == "received");
    wait::until("the page hears that the upload is there", LIMIT, is_there).await;
    let (first, last) = (states().remove(0), states().pop().unwrap());
    assert_eq!(first["state"], "running");
    let expected = json!({ "upload": "cv", "bytes": 50_000, "of": 50_000, "state": "received" });
    assert_eq!(last, expected);
}

async fn told_and_bounded(node: &Node) {
    let base = node.public_url();
    let client = logged_in(base, "ann").await;
    let page = Page::open(&client, base, None).await;
    tell(&client, base, "ann", 1..=3).await;
    page.until_told(3).await;
    let again = Page::open(&client, base, page.last_id().as_deref()).await;
    tell(&client, base, "ann", 4..=4).await;
    again.until_told(1).await;
    assert_eq!((again.numbers(), again.resets()), (vec![4], 0));
    let mut more = Vec::new();
    for _ in 0..6 {
        more.push(Page::open(&client, base, None).await);
    }
    let ninth = listen(&client, base, None).await;
    oracle!("t11: status of the ninth page of a session", ninth.status().as_u16(), 429);
    let nobody = listen(&Client::new(), base, None).await;
    oracle!("status of a page without a session", nobody.status().as_u16(), 401);
}
