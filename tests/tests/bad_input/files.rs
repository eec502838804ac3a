//! Rows 15 to 18: files as nobody uploads, asks for or links to them who means well.

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Answer, Client, Node, NodeSpec, Program, crowd, oracle, wait};

use super::wire::{LIMIT, Raw, exchange};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
const TEXT: &str = "0123456789abcdefghij";

/// A node of the fixture application, and somebody who is logged in there.
async fn stage() -> (Node, Client) {
    let mut node = NodeSpec::new("target").program(Program::Fixture).start();
    node.ready(LIMIT).await;
    let client = Client::new();
    client.post(node.public_url(), "/login?user=ann").await.unwrap().expect(204);
    (node, client)
}

async fn put(client: &Client, node: &Node, path: &str, (kind, body): (&str, &[u8])) -> Answer {
    let request = client.build(Method::PUT, node.public_url(), path).body(body.to_vec());
    client.send(request.header("content-type", kind)).await.unwrap()
}

/// Sends a request as it is written, by somebody who is logged in or by a stranger.
async fn asked(node: &Node, client: Option<&Client>, line: &str, more: &str) -> Raw {
    let cookies = client.map(Client::cookies).unwrap_or_default();
    let cookies: Vec<String> =
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let cookies = cookies.join("; ");
    let cookie = if cookies.is_empty() { cookies } else { format!("Cookie: {cookies}\r\n") };
    let head = format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{cookie}{more}\r\n");
    let mut answers = exchange(node, head).await;
    assert_eq!(answers.len(), 1, "{line} {more}: {answers:?}");
    answers.remove(0)
}

fn told<'a>(answer: &'a Raw, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_a_name_is_kept_as_it_is_or_refused_and_leads_nowhere() {
    let (node, client) = stage().await;
    let long = "x".repeat(300);
    for name in [
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e",
        "a%5Cb",
        "a%00b",
        "a%0D%0Aset-cookie:%20x=y",
        "gpj%E2%80%AE.exe",
        &long,
    ] {
        let line = format!("PUT /api/files/{name}");
        let answer = asked(&node, Some(&client), &line, "Content-Length: 0\r\n").await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "file_bad_name"), "{answer:?}");
    }
    for (name, disposition) in [
        ("CON", "attachment; filename=\"CON\"; filename*=UTF-8''CON"),
        ("%F0%9F%98%80.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%F0%9F%98%80.txt"),
        ("a%22%3Bb.html", "attachment; filename=\"a__b.html\"; filename*=UTF-8''a%22%3Bb.html"),
    ] {
        let path = format!("/api/files/{name}");
        put(&client, &node, &path, ("text/plain", TEXT.as_bytes())).await.expect(200);
        let answer = asked(&node, Some(&client), &format!("GET {path}"), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, TEXT), "{answer:?}");
        assert_eq!(told(&answer, "content-disposition"), Some(disposition));
    }
    for (given, kept) in [
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\x.txt", "x.txt"),
        ("a%0D%0Aset-cookie: x=y", "aset-cookie: x=y"),
        ("gpj\u{202e}.exe", "gpj.exe"),
        (&long, &long[..255]),
    ] {
        let part = format!("Content-Disposition: form-data; name=\"f\"; filename=\"{given}\"");
        let body = format!("--b\r\n{part}\r\n\r\n{TEXT}\r\n--b--\r\n");
        let request = client.build(Method::POST, node.public_url(), "/api/files").body(body);
        let request = request.header("content-type", "multipart/form-data; boundary=b");
        let saved: Value = client.send(request).await.unwrap().expect(200).json();
        assert_eq!(saved["files"][0]["name"], json!(kept), "{given:?}: {saved}");
    }
    let all: Value = client.get(node.public_url(), "/api/files").await.unwrap().expect(200).json();
    oracle!("files that are there", all["files"].as_array().unwrap().len(), 8);
    let stranger = client.stranger();
    let refused = stranger.get(node.public_url(), "/api/files/CON").await.unwrap();
    assert_eq!(refused.expect(401).json::<Value>()["code"], "file_needs_user");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_nothing_that_is_not_a_picture_is_shown_by_a_browser() {
    let (node, client) = stage().await;
    let script = b"<html><script>alert(1)</script></html>";
    let drawing = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    let both = b"GIF89a/*<script>alert(1)</script>*/=1";
    let mut shown = 0;
    let cases: [(&str, &[u8]); 7] = [
        ("image/png", script),
        ("image/png", drawing),
        ("image/svg+xml", drawing),
        ("text/html", script),
        ("image/gif", both),
        ("image/jpeg", PNG),
        ("image/png", PNG),
    ];
    for (kind, body) in cases {
        put(&client, &node, "/api/files/a.png", (kind, body)).await.expect(200);
        let answer = asked(&node, Some(&client), "GET /api/files/a.png", "").await;
        let is_picture = (kind, body) == ("image/png", PNG);
        let expected = if is_picture {
            ("image/png", "inline")
        } else {
            ("application/octet-stream", "attachment")
        };
        let disposition = told(&answer, "content-disposition").unwrap();
        assert_eq!(told(&answer, "content-type"), Some(expected.0), "{kind}");
        assert!(disposition.starts_with(expected.1), "{kind}: {disposition}");
        assert_eq!(told(&answer, "x-content-type-options"), Some("nosniff"));
        let policy = told(&answer, "content-security-policy").unwrap();
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
        shown += usize::from(disposition.starts_with("inline"));
        let only = put(&client, &node, "/pictures?name=a.png", (kind, body)).await;
        assert_eq!(only.status, if is_picture { 200 } else { 415 }, "{kind}: {only:?}");
    }
    oracle!("files of 7 that a browser shows", shown, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_ranges_of_a_file_are_served_refused_or_ignored_and_never_more_than_the_file() {
    let (node, client) = stage().await;
    let path = "/api/files/text";
    put(&client, &node, path, ("text/plain", TEXT.as_bytes())).await.expect(200);
    let many = format!("bytes={}", vec!["0-0"; 1_000].join(","));
    let mut most = 0;
    for (range, status, expected) in [
        ("bytes=0-0", 206, "0"),
        ("bytes=-2", 206, "ij"),
        ("bytes=0-99999999999999999999", 206, TEXT),
        ("bytes=0-,0-,0-", 206, TEXT),
        ("bytes=0-9,5-14", 206, &TEXT[..15]),
        ("bytes=-0", 416, ""),
        ("bytes=20-", 416, ""),
        ("bytes=5-1", 200, TEXT),
        (&many, 200, TEXT),
    ] {
        let line = format!("GET {path}");
        let answer = asked(&node, Some(&client), &line, &format!("Range: {range}\r\n")).await;
        let sent = if answer.status < 300 { answer.body.as_str() } else { "" };
        assert_eq!((answer.status, sent), (status, expected), "{range}: {answer:?}");
        most = most.max(sent.len());
    }
    oracle!("bytes of a file of 20 that one request got", most, <= TEXT.len());
    let line = format!("GET {path}");
    let answer = asked(&node, Some(&client), &line, "Range: bytes=0-1,18-,5-5\r\n").await;
    let kind = told(&answer, "content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("several parts");
    let part = |range: &str, text: &str| {
        let kind = "Content-Type: application/octet-stream";
        format!("\r\n--{boundary}\r\n{kind}\r\nContent-Range: bytes {range}/20\r\n\r\n{text}")
    };
    let parts = [part("0-1", "01"), part("18-19", "ij"), part("5-5", "5")].concat();
    let expected = format!("{parts}\r\n--{boundary}--\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (206, expected.as_str()));
    let whole = asked(&node, Some(&client), &line, "").await;
    let tag = told(&whole, "etag").unwrap();
    for (condition, status) in [(tag, 206), ("\"other\"", 200), (&format!("W/{tag}"), 200)] {
        let lines = format!("Range: bytes=0-1,5-5\r\nIf-Range: {condition}\r\n");
        assert_eq!(asked(&node, Some(&client), &line, &lines).await.status, status, "{condition}");
    }
}

async fn link(client: &Client, node: &Node, wish: &Value) -> String {
    let path = "/api/files/na%20me/link";
    let told = client.post_json(node.public_url(), path, wish).await.unwrap().expect(200);
    let url = told.json::<Value>()["url"].as_str().unwrap().to_owned();
    url[url.find("/.well-known").expect("a link has a path")..].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_a_link_that_is_not_good_is_refused_and_nobody_learns_why() {
    let (node, client) = stage().await;
    put(&client, &node, "/api/files/na%20me", ("text/plain", TEXT.as_bytes())).await.expect(200);
    let read = link(&client, &node, &json!({ "to": "read" })).await;
    let good = asked(&node, None, &format!("GET {read}"), "").await;
    assert_eq!((good.status, good.body.as_str()), (200, TEXT), "{good:?}");
    let key = read.split_once("?key=").unwrap().1.split_once('&').unwrap().0.to_owned();
    let short = link(&client, &node, &json!({ "to": "read", "seconds": 1 })).await;
    let line = format!("GET {short}");
    let is_over = async || asked(&node, None, &line, "").await.status == 403;
    wait::until("a link for a second is over", LIMIT, is_over).await;
    let mut refused = Vec::new();
    for line in [
        line.clone(),
        format!("PUT {read}"),
        format!("DELETE {read}"),
        format!("GET {}", read.replacen("na%20me", "Na%20me", 1)),
        format!("GET {}", read.replacen("na%20me", "n%61%20me", 1)),
        format!("GET {}", read.replacen("na%20me", "na%2520me", 1)),
        format!("GET {}", read.replacen("na%20me", "%2e%2e", 1)),
        format!("GET {}", read.replacen("na%20me", "nobody", 1)),
        format!("GET {}", read.replacen(&key, "00000000", 1)),
        format!("GET {}", read.replacen("as=type", "as=file", 1)),
        format!("GET {read}&as=file"),
        format!("GET {read}AAAA"),
        format!("GET {}", &read[..read.len() - 1]),
        format!("GET {}", read.split_once('?').unwrap().0),
    ] {
        let answer = asked(&node, None, &line, "Content-Length: 0\r\n").await;
        refused.push((answer.status, answer.code(), answer.body.len()));
    }
    let same = refused.iter().filter(|one| **one == refused[0]).count();
    assert_eq!((refused[0].0, refused[0].1.as_str()), (403, "file_link_refused"));
    oracle!("links of 14 that were refused in the same words", same, 14);
    let write = link(&client, &node, &json!({ "to": "write", "bytes": 3 })).await;
    let long = put(&client.stranger(), &node, &write, ("text/plain", b"1234")).await.expect(413);
    assert_eq!(long.json::<Value>()["code"], "file_too_large");
    let saved = put(&client.stranger(), &node, &write, ("text/plain", b"new")).await;
    assert_eq!(saved.expect(200).json::<Value>()["bytes"], 3);
    let good = asked(&node, None, &format!("GET {read}"), "").await;
    assert_eq!((good.status, good.body.as_str()), (200, "new"), "{good:?}");
    a_link_for_one_upload_is_good_for_one(&node, &client).await;
}

async fn a_link_for_one_upload_is_good_for_one(node: &Node, client: &Client) {
    let wish = json!({ "to": "write", "bytes": 3, "once": true });
    let (once, stranger) = (link(client, node, &wish).await, client.stranger());
    put(&stranger, node, &once, ("text/plain", b"1234")).await.expect(413);
    let line = format!("PUT {once}");
    let lines = "Content-Length: 0\r\nIf-None-Match: *\r\n";
    let conditional = asked(node, None, &line, lines).await;
    assert_eq!((conditional.status, conditional.code().as_str()), (400, "file_bad_header"));
    for changed in [once.replacen("PUT-ONCE", "PUT", 1), once.replacen("&once=", "&all=", 1)] {
        let refused = asked(node, None, &format!("PUT {changed}"), "Content-Length: 0\r\n").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "file_link_refused"));
    }
    let statuses = crowd(8, 8, async |number| {
        let body = format!("{number:03}");
        put(&stranger, node, &once, ("text/plain", body.as_bytes())).await.status
    })
    .await;
    let saved = statuses.iter().filter(|status| **status == 200).count();
    oracle!("uploads of 8 by a link for one", saved, 1);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 410)), "{statuses:?}");
    client.delete(node.public_url(), "/api/files/na%20me").await.unwrap().expect(204);
    let used = put(&stranger, node, &once, ("text/plain", b"new")).await.expect(410);
    assert_eq!(used.json::<Value>()["code"], "file_link_used");
    let path = "/api/files/na%20me/link";
    let wish = json!({ "to": "read", "once": true });
    let odd = client.post_json(node.public_url(), path, &wish).await.unwrap().expect(422);
    let odd: Value = odd.json();
    assert_eq!((&odd["code"], &odd["field"]), (&json!("file_bad_link"), &json!("once")));
}
