//! The session API, row by row: what the session is, when it begins, when it ends.

use serde_json::{Value, json};
use understudy_tests::{Answer, Client, oracle};

use super::alone::node;

/// What an answer that is a problem says: status and code.
pub(super) fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let body: Value = answer.json();
    assert_eq!(body["status"], answer.status, "{answer:?}");
    (answer.status, body["code"].as_str().expect("a code").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_no_session_and_the_first_write_does() {
    let node = node().await;
    let (client, url) = (Client::new(), node.public_url());
    let about: Value = client.get(url, "/api/session").await.unwrap().expect(200).json();
    for member in ["user", "created", "expires", "absolute_expires", "idle_seconds", "owner"] {
        assert_eq!(about[member], Value::Null, "{member}: {about}");
    }
    assert_eq!(about["version"], 0);
    let name = about["node"].as_str().expect("the node names itself").to_owned();
    assert!(!name.is_empty());
    let values: Value = client.get(url, "/api/session/values").await.unwrap().expect(200).json();
    assert_eq!(values, json!({ "values": {}, "version": 0 }));
    let missing = client.get(url, "/api/session/values/a").await.unwrap();
    assert_eq!(problem(&missing), (404, "no_such_value".to_owned()));
    client.delete(url, "/api/session").await.unwrap().expect(204);
    oracle!("cookies set by reading and by ending nothing", client.cookies().len(), 0);

    let begun = client.put_json(url, "/api/session/values/a", &1).await.unwrap().expect(204);
    oracle!("cookies set by the first write", begun.set_cookies().len(), 1);
    assert!(begun.text.is_empty());
    let about = client.get(url, "/api/session").await.unwrap().expect(200);
    assert_eq!(about.header("cache-control"), Some("no-store"));
    let about: Value = about.json();
    assert_eq!(about["user"], Value::Null);
    assert_eq!((&about["version"], &about["idle_seconds"]), (&json!(1), &json!(1800.0)));
    // The owner is this life of the node that answers.
    let owner = about["owner"].as_str().expect("an owner");
    assert!(owner.starts_with(&format!("{name}#")), "{owner} is a life of {name}");
    in_order(&about);
}

/// Three times of RFC 3339 in UTC, which compare as texts.
fn in_order(about: &Value) {
    let time = |member: &str| about[member].as_str().expect("a time").to_owned();
    let (created, expires, absolute) = (time("created"), time("expires"), time("absolute_expires"));
    assert!(created < expires && expires < absolute, "{about}");
    for text in [created, expires, absolute] {
        let looks_right = text.len() == "2026-01-01T00:00:00.000Z".len() && text.ends_with('Z');
        assert!(looks_right && text.starts_with("20"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_is_over_for_its_cookie_too() {
    let node = node().await;
    let (client, url) = (Client::new(), node.public_url());
    client.put_json(url, "/api/session/values/a", &1).await.unwrap().expect(204);
    let thief = client.fork();
    let ended = client.delete(url, "/api/session").await.unwrap().expect(204);
    oracle!("cookies left after the end", client.cookies().len(), 0);
    assert_eq!(ended.set_cookies().len(), 1, "the cookie is taken back: {ended:?}");
    let about: Value = thief.get(url, "/api/session").await.unwrap().expect(200).json();
    assert_eq!((&about["version"], &about["owner"]), (&json!(0), &Value::Null));
    let values: Value = thief.get(url, "/api/session/values").await.unwrap().expect(200).json();
    assert_eq!(values["values"], json!({}));
    // What begins now is another session.
    let before = thief.cookies();
    thief.put_json(url, "/api/session/values/b", &2).await.unwrap().expect(204);
    assert_ne!(thief.cookies(), before, "an ended session is never begun again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_does_not_have_is_told_as_a_problem() {
    let node = node().await;
    let (client, url) = (Client::new(), node.public_url());
    for (method, path, status, code) in [
        ("GET", "/api/session/none", 404, "not_found"),
        ("GET", "/api/session/values/a/increment/b", 404, "not_found"),
        ("PATCH", "/api/session/values/a", 405, "method_not_allowed"),
        ("POST", "/api/session", 405, "method_not_allowed"),
        ("GET", "/api/session/values/a/increment", 405, "method_not_allowed"),
        ("TRACE", "/api/session", 405, "method_not_allowed"),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let answer = client.send(client.build(method.clone(), url, path)).await.unwrap();
        assert_eq!(problem(&answer), (status, code.to_owned()), "{method} {path}");
        if status == 405 {
            assert!(answer.header("allow").is_some_and(|allow| !allow.is_empty()), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_its_name_in_answers_only_when_it_is_asked_to() {
    let silent = node().await;
    let answer = Client::new().get(silent.public_url(), "/api/session").await.unwrap();
    assert!(answer.expect(200).node().is_none());
    let spec = super::alone::spec()
        .env("UNDERSTUDY_HTTP_EXPOSE_NODE", "true")
        .env("UNDERSTUDY_NODE_ID", "web-1");
    let open = super::alone::started(spec).await;
    for path in ["/", "/api/session", "/no-such-page"] {
        let answer = Client::new().get(open.public_url(), path).await.unwrap();
        assert_eq!(answer.node(), Some("web-1"), "{path}");
    }
}
