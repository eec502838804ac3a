//! A person with a browser: what the tests ask of the fixture application.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Deserialize;
use serde_json::Value;
use understudy_tests::{Answer, Client, oracle};

/// What most routes of the fixture answer.
#[derive(Debug, Deserialize)]
struct Valued {
    value: Value,
}

#[derive(Debug, Deserialize)]
struct Who {
    user: Option<String>,
}

/// What /all tells of the session.
#[derive(Debug, Deserialize)]
pub(super) struct All {
    pub(super) values: serde_json::Map<String, Value>,
    pub(super) info: Option<Info>,
}

/// What a handler is told of the session.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) version: u64,
}

/// A client whose session was begun at `base`.
pub(super) async fn begun(base: &str) -> Client {
    let client = Client::new();
    client.post(base, "/set?k=begun&v=yes").await.unwrap().expect(204);
    client
}

/// A client that is logged in, in a session begun at `base`.
pub(super) async fn logged_in(base: &str, user: &str) -> Client {
    let client = Client::new();
    client.post(base, &format!("/login?user={user}")).await.unwrap().expect(204);
    client
}

/// Who this browser is for the node at `base`.
pub(super) async fn whoami(client: &Client, base: &str) -> Option<String> {
    client.get(base, "/whoami").await.unwrap().expect(200).json::<Who>().user
}

/// The counter as the node at `base` sees it.
pub(super) async fn counter(client: &Client, base: &str) -> Option<i64> {
    value(&client.get(base, "/read").await.unwrap().expect(200)).as_i64()
}

/// The value in an answer of the fixture.
pub(super) fn value(answer: &Answer) -> Value {
    answer.json::<Valued>().value
}

/// Everything in the session, as the node at `base` sees it.
pub(super) async fn all(client: &Client, base: &str) -> All {
    client.get(base, "/all").await.unwrap().expect(200).json()
}

/// The session cookie of this browser: name and value.
pub(super) fn cookie(client: &Client) -> (String, String) {
    let mut cookies = client.cookies().into_iter();
    let cookie = cookies.next().expect("a session was begun");
    assert!(cookies.next().is_none(), "the session is the only cookie");
    cookie
}

/// Another browser that has exactly this cookie.
pub(super) fn with_cookie(client: &Client, name: &str, value: &str) -> Client {
    let other = client.stranger();
    other.set_cookie(name, value);
    other
}

/// Dice that can be thrown again: the seed is printed, and taken from `UNDERSTUDY_TESTS_SEED` if that is set.
pub(super) fn dice(what: &str) -> StdRng {
    let given = std::env::var_os("UNDERSTUDY_TESTS_SEED");
    let given = given.and_then(|seed| seed.to_str()?.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    oracle::note(&format!("{what}: UNDERSTUDY_TESTS_SEED={seed}"));
    StdRng::seed_from_u64(seed)
}
