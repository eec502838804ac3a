//! What is sent, and what answers mean, towards a server of a few lines.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::attempt::tests::{attempt, lines};
use super::*;

/// A server that gives one answer per connection, and the requests it was sent.
struct Sink {
    url: String,
    served: JoinHandle<Vec<String>>,
}

async fn sink(answers: &[&str]) -> Sink {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(whole_request(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    Sink { url, served }
}

async fn whole_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the request ended early: {text}");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}

fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Any\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn call(url: &str) -> HttpCall {
    let json = json!({ "url": url });
    serde_json::from_value(json).unwrap()
}

async fn send_call(call: &HttpCall) -> (Result<Value, JobError>, Vec<String>) {
    send_call_of(call, &attempt()).await
}

async fn send_call_of(
    call: &HttpCall,
    attempt: &Attempt,
) -> (Result<Value, JobError>, Vec<String>) {
    let (log, mut lines) = lines();
    let environment = Environment::of([("TOKEN", "s3cret"), ("NAME", "a \"b\""), ("BAD", "a\nb")]);
    let clients = Clients::default();
    let answered = send(call, attempt, (&clients, &environment), &log).await;
    let mut told = Vec::new();
    while let Ok(line) = lines.try_recv() {
        told.push(line);
    }
    (answered, told)
}

async fn failure(call: &HttpCall) -> String {
    send_call(call).await.0.unwrap_err().message().to_owned()
}

#[tokio::test]
async fn a_call_says_which_run_makes_it_and_fills_in_variables() {
    let sink = sink(&[&answer(200, "thanks")]).await;
    let mut call = call(&format!("{}/tick?token=${{TOKEN}}", sink.url));
    call.method = "POST".to_owned();
    call.headers = BTreeMap::from([("X-Token".to_owned(), "<${TOKEN}>".to_owned())]);
    call.json = Some(json!({ "name": "${NAME}", "list": [1, "$${NAME}"] }));
    let (answered, told) = send_call(&call).await;
    let report = answered.unwrap();
    assert_eq!((&report["status"], &report["bytes"]), (&json!(200), &json!(6)));
    assert!(told[0].starts_with("info POST answered 200 after "), "{told:?}");
    assert_eq!(told[1..], ["info thanks"]);
    let requests = sink.served.await.unwrap();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    for line in [
        "POST /tick?token=s3cret HTTP/1.1",
        "x-token: <s3cret>",
        "content-type: application/json",
        "understudy-job: ping",
        "understudy-run: 17",
        "understudy-fire-time: 2026-12-01T02:00:00Z",
        "understudy-epoch: 3",
        "understudy-attempt: 2",
        "idempotency-key: ping/cron:1796090400000",
    ] {
        assert!(head.lines().any(|sent| sent == line), "{line} is not in\n{head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({ "name": "a \"b\"", "list": [1, "${NAME}"] }));
}

#[tokio::test]
async fn a_call_continues_the_trace_of_its_run_and_of_no_other() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (trace, sent) in [(Some(TRACE.to_owned()), true), (None, false)] {
        let sink = sink(&[&answer(200, "")]).await;
        let attempt = Attempt { trace, ..attempt() };
        send_call_of(&call(&sink.url), &attempt).await.0.unwrap();
        let requests = sink.served.await.unwrap();
        let header = format!("traceparent: {TRACE}");
        assert_eq!(requests[0].lines().any(|line| line == header), sent, "{}", requests[0]);
    }
}

#[tokio::test]
async fn only_the_expected_statuses_are_a_success() {
    for (status, expect, error) in [
        (204, vec![], None),
        (299, vec![], None),
        (302, vec![], Some("answered 302, expected 200-299")),
        (500, vec![], Some("answered 500, expected 200-299")),
        (500, vec![200, 500], None),
        (201, vec![200, 204], Some("answered 201, expected 200, 204")),
    ] {
        let sink = sink(&[&answer(status, "")]).await;
        let call = HttpCall { expect, ..call(&sink.url) };
        let answered = send_call(&call).await.0.map(|_| ()).map_err(|it| it.message().to_owned());
        assert_eq!(answered.err().as_deref(), error);
    }
}

#[tokio::test]
async fn redirects_are_followed_only_when_asked_for_and_never_to_another_host() {
    let moved = |to: &str| {
        format!(
            "HTTP/1.1 307 Moved\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    };
    let sink = sink(&[&moved("/there"), &answer(200, "")]).await;
    let follows = HttpCall { follow_redirects: true, ..call(&format!("{}/here", sink.url)) };
    send_call(&follows).await.0.unwrap();
    assert!(sink.served.await.unwrap()[1].starts_with("GET /there "));
    let sink = self::sink(&[&moved("/there")]).await;
    assert!(failure(&call(&sink.url)).await.starts_with("answered 307"));
    let sink = self::sink(&[&moved("http://localhost:1/")]).await;
    let elsewhere = HttpCall { follow_redirects: true, ..call(&sink.url) };
    assert!(failure(&elsewhere).await.starts_with("answered 307"));
}

#[tokio::test]
async fn of_a_long_answer_only_the_beginning_is_kept() {
    let sink = sink(&[&answer(200, &"x".repeat(MOST_READ / 2))]).await;
    let (answered, told) = send_call(&call(&sink.url)).await;
    assert_eq!(answered.unwrap()["bytes"], json!(MOST_READ / 2));
    assert_eq!(told[1].len(), "info ".len() + MOST_LOGGED);
}

#[tokio::test]
async fn no_answer_is_told_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Nobody takes the connection, so nobody answers.
    let silent = HttpCall { timeout_ms: 100, ..call(&format!("http://127.0.0.1:{port}/s3cret")) };
    assert_eq!(failure(&silent).await, "no answer within 100ms");
    drop(listener);
    let refused = failure(&call(&format!("http://127.0.0.1:{port}/?token=${{TOKEN}}"))).await;
    assert!(refused.contains("refused") && !refused.contains("s3cret"), "{refused}");
}

#[tokio::test]
async fn a_call_that_cannot_be_made_says_why_and_repeats_no_secret() {
    let mut unset = call("http://127.0.0.1:1");
    unset.body = Some("${NOT_SET}".to_owned());
    assert!(failure(&unset).await.contains("NOT_SET"));
    let mut bad = call("http://127.0.0.1:1");
    bad.headers = BTreeMap::from([("X-Bad".to_owned(), "${BAD}".to_owned())]);
    assert_eq!(failure(&bad).await, "the header X-Bad is none, once filled in");
    let nowhere = call("ftp://${TOKEN}");
    assert_eq!(failure(&nowhere).await, "url is no address of http or https, once filled in");
}
