//! Requests that another site makes a browser send.

use understudy_tests::{Client, Node, oracle};

use super::alone::{node, spec, started};
use super::api::problem;

const PATH: &str = "/api/session/values/a";

async fn put(client: &Client, node: &Node, headers: &[(&str, &str)]) -> (u16, usize) {
    let put = client.build(reqwest::Method::PUT, node.public_url(), PATH).body("1");
    let put = headers.iter().fold(put, |put, (name, value)| put.header(*name, *value));
    let answer = client.send(put).await.unwrap();
    if answer.status == 403 {
        assert_eq!(problem(&answer), (403, "cross_site".to_owned()), "{headers:?}");
    }
    (answer.status, answer.set_cookies().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_site_and_what_is_no_browser_can_change_something() {
    let node = node().await;
    let own = node.public_url().to_owned();
    let table: [(&[(&str, &str)], u16); 10] = [
        (&[], 204),
        (&[("sec-fetch-site", "same-origin")], 204),
        (&[("sec-fetch-site", "none")], 204),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "cross-site"), ("origin", &own)], 403),
        (&[("origin", &own)], 204),
        (&[("origin", "https://evil.test")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "https://evil.test"), ("content-type", "text/plain")], 403),
    ];
    let mut wrong = 0;
    for (headers, expected) in table {
        let (status, cookies) = put(&Client::new(), &node, headers).await;
        wrong += usize::from(status != expected);
        assert_eq!((status, cookies), (expected, usize::from(expected == 204)), "{headers:?}");
    }
    oracle!("requests that came through or were refused wrongly", wrong, 0);
    // Looking is not refused: a link from elsewhere leads here.
    let get = Client::new().build(reqwest::Method::GET, node.public_url(), "/");
    let get = get.header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(get.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_balancer_the_own_site_is_the_one_that_browsers_see() {
    let node = started(spec().env("UNDERSTUDY_HTTP_EXTERNAL_URL", "https://shop.example")).await;
    let own = node.public_url().to_owned();
    let table = [("https://shop.example", 204), ("http://shop.example", 403), (own.as_str(), 403)];
    for (origin, expected) in table {
        let (status, _) = put(&Client::new(), &node, &[("origin", origin)]).await;
        assert_eq!(status, expected, "{origin}");
    }
}
