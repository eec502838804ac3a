//! A shop that was ported from actix-session: a browser sees the same as before, but for what the document says.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use understudy_tests::servers::{Launch, Process, Scratch, Signal, free_port, spawn};
use understudy_tests::{Answer, Client, Cluster, Program, binary, crowd, oracle, wait};

const LIMIT: Duration = Duration::from_secs(30);
const ANN: &str = "user=ann&password=hunter2";
const REMEMBERED_ANN: &str = "user=ann&password=hunter2&remember=on";

/// What somebody does in the shop.
#[derive(Debug, Clone, Copy)]
enum Step {
    Look,
    /// Sends a form, and is led back to the shop.
    Post(&'static str, &'static str),
    /// Closes the browser, opens it again and looks.
    Reopen,
}

use Step::{Look, Post, Reopen};

/// The steps before a node is killed, and what is to be seen after each.
const UNTIL_THE_KILL: [(Step, &str); 4] = [
    (Look, "guest, cart: empty\n"),
    (Post("/add", "item=tea"), "It is in your cart.\nguest, cart: tea\n"),
    (Look, "guest, cart: tea\n"),
    (Post("/login", "user=ann&password=wrong"), "Wrong name or password.\nguest, cart: tea\n"),
];

/// The steps after that.
const SINCE_THE_KILL: [(Step, &str); 13] = [
    (Post("/login", ANN), "Hello, ann.\nann, cart: tea\n"),
    (Post("/add", "item=bread"), "It is in your cart.\nann, cart: tea, bread\n"),
    (Post("/checkout", ""), "Thank you for order 1.\nann, cart: empty\n"),
    (Post("/checkout", ""), "Thank you for order 2.\nann, cart: empty\n"),
    (Post("/logout", ""), "guest, cart: empty\n"),
    (Post("/checkout", ""), "Log in first.\nguest, cart: empty\n"),
    (Post("/login", ANN), "Hello, ann.\nann, cart: empty\n"),
    (Reopen, "guest, cart: empty\n"),
    (Post("/login", REMEMBERED_ANN), "Hello, ann.\nann, cart: empty\n"),
    (Reopen, "ann, cart: empty\n"),
    (Post("/checkout", ""), "Thank you for order 1.\nann, cart: empty\n"),
    (Post("/logout", ""), "guest, cart: empty\n"),
    (Reopen, "guest, cart: empty\n"),
];

/// What is seen after each of these is not the same: before the port, and after it.
const DIFFERENT: [(&[Step], &str, &str); 2] = [
    (
        &[Post("/login", REMEMBERED_ANN), Post("/add", "item=tea"), Reopen],
        "ann, cart: empty\n",
        "ann, cart: tea\n",
    ),
    (
        &[
            Post("/login", ANN),
            Post("/add", "item=tea"),
            Post("/login", "user=bob&password=hunter2"),
        ],
        "Hello, bob.\nbob, cart: tea\n",
        "Hello, bob.\nbob, cart: empty\n",
    ),
];

/// A browser, and which of its cookies outlive it.
struct Browser {
    client: Client,
    lasting: BTreeSet<String>,
}

impl Browser {
    fn new() -> Self {
        Self { client: Client::new(), lasting: BTreeSet::new() }
    }

    /// Does one step at the shop at `base`; gives what is seen then.
    async fn goes(&mut self, base: &str, step: Step) -> String {
        match step {
            Look => {}
            Post(path, form) => {
                let request = self.client.build(Method::POST, base, path).body(form);
                let request = request.header("content-type", "application/x-www-form-urlencoded");
                let answer = self.client.send(request).await.unwrap().expect(303);
                assert_eq!(answer.header("location"), Some("/"), "{answer:?}");
                self.note(&answer);
            }
            Reopen => {
                let cookies = self.client.cookies();
                self.client.clear_cookies();
                let lasting = cookies.iter().filter(|(name, _)| self.lasting.contains(*name));
                lasting.for_each(|(name, value)| self.client.set_cookie(name, value));
            }
        }
        let shop = self.client.get(base, "/").await.unwrap().expect(200);
        self.note(&shop);
        shop.text
    }

    fn note(&mut self, answer: &Answer) {
        for line in answer.set_cookies() {
            let name = line.split('=').next().unwrap_or_default().to_owned();
            if line.to_ascii_lowercase().contains("; max-age=") {
                self.lasting.insert(name);
            } else {
                self.lasting.remove(&name);
            }
        }
    }

    /// Does these steps at the shops in turn; gives how often something else is seen than should be.
    async fn visits(&mut self, bases: &[String], steps: &[(Step, &str)]) -> usize {
        let mut wrong = 0;
        for (number, (step, wanted)) in steps.iter().enumerate() {
            let seen = self.goes(&bases[number % bases.len()], *step).await;
            if seen != *wanted {
                oracle::note(&format!("{step:?} shows {seen:?} and not {wanted:?}"));
                wrong += 1;
            }
        }
        wrong
    }
}

/// The shop before the port.
struct ShopBefore {
    _process: Process,
    bases: Vec<String>,
    _folder: Scratch,
}

impl ShopBefore {
    async fn start(redis_url: &str) -> Self {
        let folder = Scratch::new("shop-before");
        let bind = format!("127.0.0.1:{}", free_port());
        let key = "k".repeat(64);
        let options = [
            ("SHOP_BIND", bind.as_str()),
            ("SHOP_REDIS_URL", redis_url),
            ("SHOP_KEY", key.as_str()),
        ];
        let mut process = spawn(Launch {
            name: "shop-before".to_owned(),
            program: binary("shop_before"),
            arguments: Vec::new(),
            environment: options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            directory: folder.path().to_owned(),
            log: folder.join("log"),
            user: None,
            farewell: Signal::KILL,
        });
        let base = format!("http://{bind}");
        wait::until("the shop before the port is open", LIMIT, async || {
            assert!(process.exited().is_none(), "{}", process.tail());
            Client::new().get(&base, "/").await.is_ok()
        })
        .await;
        Self { _process: process, bases: vec![base], _folder: folder }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_was_ported_from_actix_session_shows_the_same_and_survives_a_node() {
    let mut cluster = Cluster::builder().program(Program::Shop).start().await;
    let before = ShopBefore::start(&cluster.redis.url()).await;
    let bases: Vec<String> =
        cluster.nodes.iter().map(|node| node.public_url().to_owned()).collect();
    differs_as_documented(&before.bases, &bases).await;
    let mut browser = Browser::new();
    let wrong = browser.visits(&before.bases, &UNTIL_THE_KILL).await
        + browser.visits(&before.bases, &SINCE_THE_KILL).await;
    oracle!("pages of 17 that are wrong before the port", wrong, 0);
    let mut browser = Browser::new();
    let wrong = browser.visits(&bases, &UNTIL_THE_KILL).await;
    // The second step began the session here.
    cluster.kill9(1);
    let alive = [bases[0].clone(), bases[2].clone()];
    let wrong = wrong + browser.visits(&alive, &SINCE_THE_KILL).await;
    oracle!("pages of 17 that are wrong after the port, with a node killed in between", wrong, 0);
}

/// What the document says of it, under "What behaves differently".
async fn differs_as_documented(before: &[String], after: &[String]) {
    for (steps, wanted_before, wanted_after) in DIFFERENT {
        for (bases, wanted) in [(before, wanted_before), (after, wanted_after)] {
            let (mut browser, mut seen) = (Browser::new(), String::new());
            for (number, step) in steps.iter().enumerate() {
                seen = browser.goes(&bases[number % bases.len()], *step).await;
            }
            assert_eq!(seen, wanted, "{steps:?} at {bases:?}");
        }
    }
    for (bases, who) in [(before, "ann"), (after, "guest")] {
        let mut browser = Browser::new();
        browser.goes(&bases[0], Post("/login", REMEMBERED_ANN)).await;
        let thief = browser.client.fork();
        browser.goes(&bases[0], Post("/logout", "")).await;
        for base in bases {
            let seen = thief.get(base, "/").await.unwrap().expect(200).text;
            assert_eq!(seen, format!("{who}, cart: empty\n"), "a copy of the cookies at {base}");
        }
    }
    let kept = added_at_once(before).await;
    oracle::note(&format!(
        "items of 30 in the cart before the port, when they come at once: {kept}"
    ));
    oracle!("items of 30 in the cart, when they come at once", added_at_once(after).await, 30);
}

/// How many of 30 items that one browser sends at once are in its cart.
async fn added_at_once(bases: &[String]) -> usize {
    let mut browser = Browser::new();
    browser.goes(&bases[0], Post("/login", ANN)).await;
    crowd(30, 30, async |number| {
        let base = &bases[number % bases.len()];
        let request =
            browser.client.build(Method::POST, base, "/add").body(format!("item={number}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        browser.client.send(request).await.unwrap().expect(303);
    })
    .await;
    let shop = browser.client.get(&bases[0], "/").await.unwrap().expect(200).text;
    let cart = shop.lines().last().and_then(|line| line.split_once("cart: ")).expect("a cart").1;
    cart.split(", ").count()
}

fn read(path: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a page that are changes, line by line.
fn changes(page: &str) -> Vec<Vec<&str>> {
    let blocks = page.split("\n```diff\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default().lines().collect()).collect()
}

/// The lines of a change that were there before (`-`) or are there afterwards (`+`), and those that stay.
fn side<'a>(change: &[&'a str], sign: char) -> Vec<&'a str> {
    let line = |line: &'a str| match line.strip_prefix([' ', sign]) {
        Some(rest) => Some(rest),
        None => line.is_empty().then_some(""), // an editor took the space away
    };
    change.iter().copied().filter_map(line).collect()
}

#[test]
fn the_document_of_the_port_shows_all_that_was_changed_line_by_line() {
    let page = read("docs/porting-from-actix-session.md");
    let (before, after) =
        (read("tests/src/bin/shop_before.rs"), read("tests/src/bin/shop_after.rs"));
    let mut left: Vec<&str> = before.lines().collect();
    let mut made: Vec<&str> = Vec::new();
    for change in changes(&page) {
        let (old, new) = (side(&change, '-'), side(&change, '+'));
        assert!(!old.is_empty() && old != new, "{change:#?}");
        let place = left.windows(old.len()).position(|lines| lines == old);
        let place = place.unwrap_or_else(|| panic!("shop_before.rs has no such lines: {old:#?}"));
        made.extend(&left[..place]);
        made.extend(new);
        left.drain(..place + old.len());
    }
    made.extend(left);
    let after: Vec<&str> = after.lines().collect();
    let differs = made.iter().zip(&after).find(|(made, after)| made != after);
    assert_eq!(differs, None, "what the document makes of shop_before.rs is not shop_after.rs");
    assert_eq!(made.len(), after.len());
}
