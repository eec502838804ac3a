//! A bucket whose server is silent, fails now and then, or is to encrypt what it is given.

use std::net::SocketAddr;

use actix_web::http::StatusCode;
use futures_util::future::join;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::super::s3::S3Contents;
use super::*;
use crate::config::{S3Config, S3Encryption};
use crate::http::problem::ApiError as _;
use crate::secret::Secret;

/// A bucket at a server, whose requests may take longer than any test.
pub(super) fn config(server: SocketAddr) -> S3Config {
    S3Config {
        bucket: "bucket".to_owned(),
        endpoint: Some(format!("http://{server}")),
        region: "us-east-1".to_owned(),
        prefix: "files".to_owned(),
        keys: Some(("id".to_owned(), Secret::new("key".to_owned()))),
        path_style: true,
        encryption: None,
        request_timeout: Duration::from_secs(600),
    }
}

pub(super) fn open(config: &S3Config) -> Arc<dyn Contents> {
    // What a node does first of all: the client of S3 does not begin without.
    rustls::crypto::ring::default_provider().install_default().ok();
    Arc::new(S3Contents::new(config).unwrap())
}

#[tokio::test]
async fn f4_a_bucket_that_says_nothing_is_told_as_503_when_its_time_is_over() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    /// What a busy machine may add; the client of S3 itself would wait for longer.
    const SLACK: Duration = Duration::from_secs(10);
    let bench = Bench::embedded(FileStoreKind::Database).await;
    bench.space().put("there", "a/b", bits(b"content")).await.unwrap();
    bench.change("UPDATE us_file SET place = 's3'").await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let bucket = open(&S3Config { request_timeout: TIMEOUT, ..config(address) });
    let mut stores = bench.store.stores.clone();
    (stores.kind, stores.s3) = (FileStoreKind::S3, Some(bucket));
    let serving = Serving { signer: Signer::for_test(), judge: None };
    let (rows, keys) = (bench.store.rows.clone(), FileKeys::default());
    let store = Arc::new(Store { rows, stores, keys, limits: LIMITS, serving });
    let files = Files::default();
    files.0.set(store).unwrap();
    let space = files.space("space");
    let begun = Instant::now();
    let written = space.put("name", "a/b", bits(b"content")).await.unwrap_err();
    let wrote = begun.elapsed();
    let begun = Instant::now();
    let found = read(space.get("there").await.unwrap().unwrap()).await.unwrap_err();
    let times = [wrote, begun.elapsed()];
    for error in [written, found] {
        assert!(matches!(error, FileError::Unavailable) && error.is_retryable(), "{error:?}");
        let status = error.problem().response().status();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{error:?}");
    }
    for time in times {
        assert!((TIMEOUT..2 * TIMEOUT + SLACK).contains(&time), "{time:?}");
    }
}

/// Answers requests with these statuses, one after the other; gives their heads, in small letters.
async fn answering(listener: &TcpListener, statuses: &[&str]) -> Vec<String> {
    let mut heads = Vec::new();
    for status in statuses {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request: Vec<u8> = Vec::new();
        let end = loop {
            if let Some(at) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the request broke off");
        };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while request.len() < end + length {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the request broke off");
        }
        let answer = format!(
            "HTTP/1.1 {status}\r\netag: \"1\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        heads.push(head);
    }
    heads
}

#[tokio::test]
async fn f4_a_request_that_failed_is_repeated_and_says_how_the_server_is_to_encrypt() {
    let kms = S3Encryption::Kms("key-1".to_owned());
    let cases: [(Option<S3Encryption>, &[&str]); 3] = [
        (None, &[]),
        (Some(S3Encryption::Aes256), &["x-amz-server-side-encryption: aes256"]),
        (
            Some(kms),
            &[
                "x-amz-server-side-encryption-aws-kms-key-id: key-1",
                "x-amz-server-side-encryption: aws:kms",
            ],
        ),
    ];
    for (encryption, wanted) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config(listener.local_addr().unwrap());
        let bucket = open(&S3Config { encryption, ..config });
        let write = async {
            let mut writing = bucket.begin("aa").await.unwrap();
            writing.add(Bytes::from_static(b"content")).await.unwrap();
            writing.finish().await
        };
        let statuses = ["500 Internal Server Error", "503 Service Unavailable", "200 OK"];
        let both = join(answering(&listener, &statuses), write);
        let limit = Duration::from_secs(60);
        let (heads, written) = timeout(limit, both).await.expect("it is asked three times");
        written.unwrap();
        for head in heads {
            assert!(head.starts_with("put /bucket/files/aa "), "{head}");
            let mut told: Vec<&str> = head
                .lines()
                .filter(|line| line.starts_with("x-amz-server-side-encryption"))
                .collect();
            told.sort_unstable();
            assert_eq!(told, wanted);
        }
    }
}
