//! Row 11: what a page of another site makes a browser send.

use reqwest::Method;
use understudy_tests::{Client, oracle, wait};

use super::wire::{LIMIT, node};

const PATHS: [(&str, &str); 5] = [
    ("PUT", "/api/session/values/a"),
    ("DELETE", "/api/session/values/a"),
    ("POST", "/api/session/values/n/increment"),
    ("POST", "/api/session/values/l/append"),
    ("DELETE", "/api/session"),
];

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_form_of_another_site_changes_nothing_and_is_written_down() {
    let node = node(&[]).await;
    let (client, url) = (Client::new(), node.public_url());
    client.put_json(url, "/api/session/values/a", &"mine").await.unwrap().expect(204);
    let before = client.get(url, "/api/session/values").await.unwrap().expect(200).text;
    let mut refused = 0;
    for (method, path) in PATHS {
        let method: Method = method.parse().unwrap();
        for (name, value, kind) in [
            ("sec-fetch-site", "cross-site", "text/plain"),
            ("sec-fetch-site", "same-site", "application/json"),
            ("origin", "null", "application/x-www-form-urlencoded"),
            ("origin", "https://evil.test", "text/plain"),
            ("origin", "http://127.0.0.1:1", "multipart/form-data; boundary=x"),
        ] {
            let request = client.build(method.clone(), url, path).body("{\"item\":1}");
            let request = request.header(name, value).header("content-type", kind);
            let answer = client.send(request).await.unwrap().expect(403);
            refused += usize::from(answer.text.contains("\"cross_site\""));
        }
    }
    oracle!("requests of other sites that were refused", refused, PATHS.len() * 5);
    let after = client.get(url, "/api/session/values").await.unwrap().expect(200).text;
    assert_eq!(after, before, "nothing was changed");
    let lines = || {
        let refusals = |event: &serde_json::Value| event["fields"]["http.status_code"] == 403;
        node.events().iter().filter(|event| refusals(event)).count()
    };
    wait::until("all are in the log", LIMIT, async || lines() >= refused).await;
    oracle!("lines in the log about them", lines(), refused);
}
