//! The page at `/`, as a client that is no browser sees it.

use understudy_tests::{Answer, Client, oracle};

use super::alone::node;

/// Inside the icon, which is a part of the page: a name, not an address.
const NAME_OF_SVG: &str = "http://www.w3.org/2000/svg";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_whole_from_the_node_and_asks_nobody_else() {
    let node = node().await;
    let client = Client::new();
    let mut addresses = 0;
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "id=\"count\""),
        ("/page.js", "text/javascript; charset=utf-8", "/api/session"),
        ("/page.css", "text/css; charset=utf-8", "body"),
    ] {
        let answer = client.get(node.public_url(), path).await.unwrap().expect(200);
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert!(answer.text.contains(part), "{path} holds {part}");
        is_harmless(&answer);
        addresses += answer.text.replace(NAME_OF_SVG, "").matches("//").count();
    }
    oracle!("addresses elsewhere in page, script and style", addresses, 0);
    oracle!("cookies for looking", client.cookies().len(), 0);
    let page = client.get(node.public_url(), "/").await.unwrap().expect(200);
    for file in ["/page.js", "/page.css"] {
        assert!(page.text.contains(file), "the page names {file}");
    }
    assert!(page.node().is_none(), "nobody asked for the name of the node");
}

fn is_harmless(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    let policy = answer.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_known_is_not_sent_again() {
    let node = node().await;
    let client = Client::new();
    for path in ["/", "/page.js", "/page.css"] {
        let first = client.get(node.public_url(), path).await.unwrap().expect(200);
        let tag = first.header("etag").expect("a tag").to_owned();
        let get = client.build(reqwest::Method::GET, node.public_url(), path);
        let again = client.send(get.header("if-none-match", &tag)).await.unwrap().expect(304);
        assert!(again.text.is_empty(), "{again:?}");
        let head = client.build(reqwest::Method::HEAD, node.public_url(), path);
        let head = client.send(head).await.unwrap();
        assert_eq!(head.status, 200, "HEAD {path}: {head:?}");
    }
    let missing = client.get(node.public_url(), "/nothing-here").await.unwrap().expect(404);
    assert_eq!(missing.header("content-type"), Some("application/problem+json"));
}
