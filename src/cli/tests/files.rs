//! Files in and out: what is sent, what is written here, and what is left when it goes wrong.

use std::io::Write as _;
use std::path::Path;

use super::node::{FakeNode, problem};
use super::{Ended, asked};

const CONTENT: &str = "0123456789";
const DIGEST: &str = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";

fn known(sha256: &str) -> String {
    format!(
        "{{\"space\":\"s\",\"name\":\"n\",\"content_type\":\"a/b\",\"bytes\":10,\"sha256\":\"{sha256}\",\"version\":\"v1\",\"created_ms\":0}}"
    )
}

/// A node with one file, which loses the first connection after so many bytes of it.
fn holding(sha256: &'static str, lost_after: usize) -> FakeNode {
    FakeNode::serving(move |asked, stream| {
        let (status, length, body) = match (asked.target.as_str(), asked.header("range")) {
            ("/v1/files/s/n", _) => (200, known(sha256).len(), known(sha256)),
            ("/v1/files/s/n/content", None) => (200, 10, CONTENT[..lost_after].to_owned()),
            ("/v1/files/s/n/content", Some(range)) => {
                let from: usize =
                    range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                (206, 10 - from, CONTENT[from..].to_owned())
            }
            (_, _) => (404, 0, String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status} Any\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        drop(stream.write_all(format!("{head}{body}").as_bytes()));
    })
}

fn get(node: &FakeNode, target: &Path, more: &[&str]) -> Ended {
    asked(node, &[&["files", "get", "s", "n", target.to_str().unwrap()], more].concat())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_file_that_is_taken_out_goes_on_where_the_connection_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let node = holding(DIGEST, 4);
    let ended = get(&node, folder.path(), &[]);
    assert_eq!(ended.status, 0, "{}", ended.complaints);
    assert!(ended.complaints.contains("going on where it broke off"), "{}", ended.complaints);
    assert_eq!(std::fs::read_to_string(folder.path().join("n")).unwrap(), CONTENT);
    assert_eq!(names(folder.path()), ["n"]);
    let sent = node.asked();
    assert_eq!(sent.last().unwrap().header("range"), Some("bytes=4-"));
    assert!(sent[1..].iter().all(|asked| asked.header("if-match") == Some("\"v1\"")), "{sent:?}");
}

#[test]
fn a_file_that_is_not_what_was_written_is_not_there_and_none_is_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("here");
    let zeros = "0000000000000000000000000000000000000000000000000000000000000000";
    let ended = get(&holding(zeros, 10), &target, &[]);
    assert_eq!(ended.status, 1);
    assert!(ended.complaints.contains("is not what was written"), "{}", ended.complaints);
    assert!(names(folder.path()).is_empty(), "nothing is left of it");
    std::fs::write(&target, "mine").unwrap();
    let ended = get(&holding(DIGEST, 10), &target, &[]);
    assert_eq!(ended.status, 64);
    assert!(ended.complaints.contains("--replace"), "{}", ended.complaints);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine");
    let ended = get(&holding(DIGEST, 10), &target, &["--replace", "--json"]);
    assert_eq!((ended.status, ended.out), (0, known(DIGEST) + "\n"));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), CONTENT);
    let ended = get(&holding(DIGEST, 10), Path::new("-"), &[]);
    assert_eq!((ended.status, ended.out.as_str()), (0, CONTENT));
}

#[test]
fn a_file_that_is_brought_in_says_its_digest_and_what_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, CONTENT).unwrap();
    let file = file.to_str().unwrap();
    let target = format!("/v1/files/s/n?sha256={DIGEST}");
    for (more, header, value) in [
        (&["--if-absent"][..], "if-none-match", "*"),
        (&["--if-version", "v1"], "if-match", "\"v1\""),
        (&["--type", "image/png"], "content-type", "image/png"),
    ] {
        let node = FakeNode::answering(&format!("PUT {target}"), 200, &known(DIGEST));
        let ended = asked(&node, &[&["files", "put", "s", "n", file], more].concat());
        assert_eq!(ended.status, 0, "{}", ended.complaints);
        let sent = node.asked().remove(0);
        assert_eq!((sent.body.as_str(), sent.header(header)), (CONTENT, Some(value)));
        assert_eq!(sent.header("content-length"), Some("10"));
    }
    let other = known(&DIGEST.replace('8', "9"));
    let node = FakeNode::answering(&format!("PUT {target}"), 200, &other);
    let ended = asked(&node, &["files", "put", "s", "n", file]);
    assert_eq!(ended.status, 1);
    assert!(ended.complaints.contains("is not what was sent"), "{}", ended.complaints);
    let ended = asked(&node, &["files", "put", "s", "n", "/no/such/file"]);
    assert_eq!(ended.status, 64);
    assert!(ended.complaints.contains("/no/such/file cannot be read"), "{}", ended.complaints);
}

#[test]
fn an_export_leaves_out_what_nobody_is_given_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let node = FakeNode::start(|asked| {
        let file = |name: &str, state: Option<&str>| {
            let verdict = state.map(|state| serde_json::json!({ "state": state, "reason": null }));
            serde_json::json!({
                "space": "s", "name": name, "content_type": "a/b", "bytes": 10,
                "sha256": DIGEST, "version": "v1", "created_ms": 0, "verdict": verdict,
            })
        };
        match asked.target.as_str() {
            "/v1/files/s/clean/content" => Some((200, CONTENT.to_owned())),
            // Of a node that does not tell verdicts yet.
            "/v1/files/s/untold/content" => Some((423, problem("file_quarantined"))),
            target if target.contains("/content") => None,
            target if target.contains("after=") => Some((200, "{\"files\":[]}".to_owned())),
            _ => {
                let files = [
                    file("bad", Some("infected")),
                    file("clean", Some("clean")),
                    file("new", Some("waiting")),
                    file("untold", None),
                ];
                Some((200, serde_json::json!({ "files": files }).to_string()))
            }
        }
    });
    // It was taken out before it was found to be infected.
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("files/bad"), CONTENT).unwrap();
    let ended = asked(&node, &["files", "export", "s", folder.path().to_str().unwrap()]);
    assert_eq!(ended.status, 1, "{}", ended.complaints);
    assert!(ended.out.contains("1 sent") && ended.out.contains("3 left out"), "{}", ended.out);
    for name in ["bad", "new", "untold"] {
        assert!(ended.complaints.contains(&format!("{name}: it is left out")), "{name}");
    }
    let manifest = std::fs::read_to_string(folder.path().join("manifest.ndjson")).unwrap();
    let lines: Vec<&str> = manifest.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("\"clean\""), "{manifest}");
    let contents = node.asked().into_iter().filter(|asked| asked.target.contains("/content"));
    assert_eq!(contents.count(), 2, "what is known to be withheld is not asked for");
}

#[test]
fn a_verification_ends_with_what_it_found_and_is_no_success_without_an_end() {
    const FOUND: &str =
        "{\"line\":\"found\",\"space\":\"s\",\"name\":\"n\",\"finding\":\"missing\"}\n";
    let done = |missing: u8| {
        format!(
            "{{\"line\":\"done\",\"files\":2,\"bytes\":2048,\"damaged\":0,\"missing\":{missing},\"unreadable\":0}}\n"
        )
    };
    let verify = |answer: &str| FakeNode::answering("POST /v1/files-verify", 200, answer);
    let ended = asked(&verify(&done(0)), &["files", "verify"]);
    let told = "2 files read, 2.0 KiB: 0 damaged, 0 missing, 0 unreadable\n";
    assert_eq!((ended.status, ended.out.as_str()), (0, told), "{}", ended.complaints);
    let raw = format!("{FOUND}{}", done(1));
    let ended = asked(&verify(&raw), &["files", "verify"]);
    assert!(ended.status == 1 && ended.out.starts_with("missing  s  n\n"), "{}", ended.out);
    let ended = asked(&verify(&raw), &["files", "verify", "--json"]);
    assert_eq!((ended.status, ended.out), (1, raw));
    let stopped = "{\"line\":\"stopped\",\"code\":\"file_store_unavailable\",\"title\":\"away\",\"files\":1,\"bytes\":1}\n";
    for (answer, told) in [(FOUND, "broke off"), (stopped, "file_store_unavailable")] {
        let ended = asked(&verify(answer), &["files", "verify"]);
        assert_eq!(ended.status, 1);
        assert!(ended.complaints.contains(told), "{}", ended.complaints);
    }
    let node = verify(&done(0));
    asked(&node, &["files", "verify", "--space", "s", "--after", "n"]);
    let sent: serde_json::Value = serde_json::from_str(&node.asked()[0].body).unwrap();
    assert_eq!(sent, serde_json::json!({ "space": "s", "after": "n" }));
}
