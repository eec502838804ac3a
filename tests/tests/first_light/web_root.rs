//! A static web app in place of the page.

use std::path::Path;

use understudy_tests::servers::Scratch;
use understudy_tests::{Answer, Client, oracle};

use super::alone::{spec, started};
use super::api::problem;

const SECRET: &str = "nobody may read this";

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
}

async fn page(client: &Client, base: &str, path: &str) -> Answer {
    let get = client.build(reqwest::Method::GET, base, path);
    client.send(get.header("accept", "text/html,*/*;q=0.8")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_served_with_its_types_and_its_api_beside_it() {
    let folder = Scratch::new("web-root");
    write(
        folder.path(),
        &[
            ("app/index.html", "<!doctype html><title>app</title>"),
            ("app/main.js", "export {}"),
            ("app/style/main.css", "body{}"),
            ("app/logo.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
            ("app/data.json", "{}"),
            ("app/ä b.txt", "text"),
        ],
    );
    let root = folder.join("app").display().to_string();
    let node = started(spec().env("UNDERSTUDY_WEB_ROOT", &root)).await;
    let (client, url) = (Client::new(), node.public_url());
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/main.js", "text/javascript"),
        ("/style/main.css", "text/css; charset=utf-8"),
        ("/logo.svg", "image/svg+xml"),
        ("/data.json", "application/json"),
        ("/%C3%A4%20b.txt", "text/plain; charset=utf-8"),
    ] {
        let answer = client.get(url, path).await.unwrap().expect(200);
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(answer.header("etag").is_some(), "{path} can be known");
    }
    assert!(!client.get(url, "/").await.unwrap().text.contains("Understudy"));
    // A route of the app in the browser is its page; a file that is missing is missing.
    assert!(page(&client, url, "/orders/17").await.expect(200).text.contains("<title>app"));
    let missing = client.get(url, "/missing.js").await.unwrap();
    assert_eq!(problem(&missing), (404, "not_found".to_owned()));
    let unsafe_method = client.post(url, "/main.js").await.unwrap();
    assert!(matches!(unsafe_method.status, 404 | 405), "{unsafe_method:?}");
    client.get(url, "/api/session").await.unwrap().expect(200);
    client.get(url, "/health/ready").await.unwrap().expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_folder_and_nothing_hidden_is_served() {
    let folder = Scratch::new("web-root");
    write(
        folder.path(),
        &[
            ("secret.txt", SECRET),
            ("app-secret/secret.txt", SECRET),
            ("app/index.html", "<title>app</title>"),
            ("app/.env", SECRET),
            ("app/.git/config", SECRET),
            ("app/sub/file.txt", "fine"),
        ],
    );
    let root = folder.join("app").display().to_string();
    let node = started(spec().env("UNDERSTUDY_WEB_ROOT", &root)).await;
    let mut leaks = 0;
    for path in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/%252e%252e%252fsecret.txt",
        "//secret.txt",
        "/..;/secret.txt",
        "/../app-secret/secret.txt",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/sub/..%00/secret.txt",
    ] {
        // A client would tidy these up before sending them.
        let answer = super::command_line::raw_get(&node, path).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
        leaks += usize::from(answer.contains(SECRET));
    }
    oracle!("files outside the folder that were served", leaks, 0);
    Client::new().get(node.public_url(), "/sub/file.txt").await.unwrap().expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_told_at_the_start() {
    let mut node = spec().env("UNDERSTUDY_WEB_ROOT", "/nowhere/at-all").start();
    let status = node.wait_exit(super::alone::LIMIT).await;
    oracle!("exit status", status.code().unwrap(), 78);
    assert!(node.log().contains("UNDERSTUDY_WEB_ROOT"), "{}", node.log());
}
