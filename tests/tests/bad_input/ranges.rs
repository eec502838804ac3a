//! Row 17: parts of a file of the web app, as nobody asks for them who wants them.

use understudy_tests::servers::Scratch;
use understudy_tests::{Node, oracle};

use super::wire::{Raw, exchange, is_well, node};

const FILE: &str = "0123456789abcdefghij";

/// A node whose web app has a file of twenty bytes and one of none.
async fn node_with_files(folder: &Scratch) -> Node {
    std::fs::write(folder.join("file.txt"), FILE).unwrap();
    std::fs::write(folder.join("empty.txt"), "").unwrap();
    node(&[("WEB_ROOT", &folder.path().display().to_string())]).await
}

async fn asked(node: &Node, path: &str, lines: &str) -> Raw {
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n");
    let mut answers = exchange(node, request).await;
    assert_eq!(answers.len(), 1, "{path} {lines}: {answers:?}");
    answers.remove(0)
}

impl Raw {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// What became of a range: the status, what was sent of the file, and which part of it that says to be.
    fn part(&self) -> (u16, &str, Option<&str>) {
        let sent = if self.status < 300 { self.body.as_str() } else { "" };
        (self.status, sent, self.header("content-range"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_range_is_served_refused_or_ignored_as_the_rfc_says() {
    let folder = Scratch::new("web-root");
    let node = node_with_files(&folder).await;
    let many = vec!["0-0"; 1_000].join(",");
    let small = (0..20).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    let ignored = (200, FILE, None);
    let refused = (416, "", Some("bytes */20"));
    let mut most = 0;
    for (range, expected) in [
        ("bytes=0-0", (206, "0", Some("bytes 0-0/20"))),
        ("bytes=3-5", (206, "345", Some("bytes 3-5/20"))),
        ("bytes=19-", (206, "j", Some("bytes 19-19/20"))),
        ("bytes=-2", (206, "ij", Some("bytes 18-19/20"))),
        ("bytes=0-", (206, FILE, Some("bytes 0-19/20"))),
        ("bytes=-99", (206, FILE, Some("bytes 0-19/20"))),
        ("bytes=0-99999999999999999999", (206, FILE, Some("bytes 0-19/20"))),
        ("bytes=7-99999999999999999999", (206, &FILE[7..], Some("bytes 7-19/20"))),
        ("bytes=-0", refused),
        ("bytes=20-", refused),
        ("bytes=99999999999999999999-", refused),
        // Neither a range nor a unit that is known: as if it were not there.
        ("bytes=5-1", ignored),
        ("bytes=a-b", ignored),
        ("bytes=", ignored),
        ("lines=0-1", ignored),
        // Several at once, the same bytes again and again: the file once.
        (&format!("bytes={many}"), ignored),
        (&format!("bytes={small}"), ignored),
        ("bytes=0-19,0-19,0-19", ignored),
        ("bytes=0-9,5-14", ignored),
        ("bytes=0-0\r\nRange: bytes=1-1", ignored),
    ] {
        let answer = asked(&node, "/file.txt", &format!("Range: {range}\r\n")).await;
        assert_eq!(answer.part(), expected, "{range}: {answer:?}");
        most = most.max(answer.part().1.len());
    }
    // Never more than one copy, whatever is asked for.
    oracle!("bytes of a file of 20 that one request got", most, <= FILE.len());
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_there_is_no_part_of_an_empty_file() {
    let folder = Scratch::new("web-root");
    let node = node_with_files(&folder).await;
    for (range, expected) in [
        ("bytes=-5", (200, "", None)),
        ("bytes=0-0", (416, "", Some("bytes */0"))),
        ("bytes=0-", (416, "", Some("bytes */0"))),
        ("bytes=-0", (416, "", Some("bytes */0"))),
    ] {
        let answer = asked(&node, "/empty.txt", &format!("Range: {range}\r\n")).await;
        assert_eq!(answer.part(), expected, "{range}: {answer:?}");
    }
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_part_is_given_only_of_what_the_client_has_and_only_to_read_it() {
    let folder = Scratch::new("web-root");
    let node = node_with_files(&folder).await;
    let whole = asked(&node, "/file.txt", "").await;
    let tag = whole.header("etag").expect("a file can be known").to_owned();
    let date = whole.header("last-modified").expect("a file has a date").to_owned();
    let part = (206, "12", Some("bytes 1-2/20"));
    for (condition, expected) in [
        (format!("If-Range: {tag}"), part),
        (format!("If-Range: {date}"), part),
        ("If-Range: \"another\"".to_owned(), (200, FILE, None)),
        (format!("If-Range: W/{tag}"), (200, FILE, None)),
        ("If-Range: Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), (200, FILE, None)),
        (format!("If-Match: {tag}"), part),
        ("If-Match: \"another\"".to_owned(), (412, "", None)),
        (format!("If-None-Match: {tag}"), (304, "", None)),
    ] {
        let lines = format!("Range: bytes=1-2\r\n{condition}\r\n");
        let answer = asked(&node, "/file.txt", &lines).await;
        assert_eq!(answer.part(), expected, "{condition}: {answer:?}");
    }
    // The conditions come before the range, also before one that cannot be served.
    let lines = format!("Range: bytes=20-\r\nIf-None-Match: {tag}\r\n");
    assert_eq!(asked(&node, "/file.txt", &lines).await.part(), (304, "", None));
    let head =
        "HEAD /file.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\nRange: bytes=0-0\r\n\r\n";
    let mut wire = super::wire::Wire::to(&node).await;
    wire.send(head).await;
    assert_eq!(wire.statuses().await, [200], "HEAD has no parts");
    let missing = asked(&node, "/missing.txt", "Range: bytes=0-0\r\n").await;
    assert_eq!((missing.status, missing.header("content-range")), (404, None), "{missing:?}");
}
