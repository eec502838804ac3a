//! What a client is told of a file that is lost, damaged or out of reach: a problem, or a connection that breaks off.

use actix_web::HttpResponse;
use actix_web::body::to_bytes;
use actix_web::http::StatusCode;
use actix_web::test::TestRequest;

use super::*;

/// How a client asks for it: the method, and ranges.
const ASKED: [(&str, Option<&str>); 3] =
    [("GET", None), ("GET", Some("bytes=5-9")), ("GET", Some("bytes=0-1,5-9"))];

async fn answered(
    space: &Space,
    (method, range): (&str, Option<&str>),
) -> Result<HttpResponse, FileError> {
    let file = space.get("name").await.unwrap().expect("there is a row");
    let request = TestRequest::default().method(method.parse().unwrap());
    let request = match range {
        Some(range) => request.insert_header(("range", range.to_owned())),
        None => request,
    };
    file.response(&request.to_http_request()).await
}

/// Where the content of the file lies.
async fn path(bench: &Bench) -> PathBuf {
    let version = bench.space().get("name").await.unwrap().unwrap().info().version.clone();
    bench.root.as_ref().unwrap().join("data").join(&version[..2]).join(&version)
}

#[tokio::test]
async fn f2_a_file_that_cannot_be_read_is_a_problem_and_no_answer_that_breaks_off() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let (space, root) = (bench.space(), bench.root.clone().unwrap());
    let content = bytes(LARGE, 9);
    space.put("name", "a/b", bits(&content)).await.unwrap();
    for asked in ASKED {
        assert!(answered(&space, asked).await.unwrap().status().is_success(), "{asked:?}");
    }
    let whole = to_bytes(answered(&space, ASKED[0]).await.unwrap().into_body()).await.unwrap();
    assert!(whole == content, "the first piece is there once");
    let away = root.with_extension("away");
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap(); // where it was mounted there is an empty folder
    for asked in ASKED {
        let refused = answered(&space, asked).await.unwrap_err();
        assert!(matches!(refused, FileError::Unavailable), "{asked:?}: {refused:?}");
    }
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    std::fs::remove_file(path(&bench).await).unwrap();
    for asked in ASKED {
        let refused = answered(&space, asked).await.unwrap_err();
        assert!(matches!(refused, FileError::Damaged), "{asked:?}: {refused:?}");
    }
    // What is known of it is answered without the content.
    assert_eq!(answered(&space, ("HEAD", None)).await.unwrap().status(), StatusCode::OK);
    // Of one piece, all is known before the head is sent.
    space.put("name", "a/b", bits(b"short")).await.unwrap();
    std::fs::write(path(&bench).await, "shirt").unwrap();
    let refused = answered(&space, ASKED[0]).await.unwrap_err();
    assert!(matches!(refused, FileError::Damaged), "{refused:?}");
}

#[tokio::test]
async fn f2_what_is_damaged_further_on_breaks_the_answer_off_and_what_was_removed_is_not_found() {
    let bench = Bench::embedded(FileStoreKind::Folder).await;
    let space = bench.space();
    let content = bytes(LARGE, 10);
    space.put("name", "a/b", bits(&content)).await.unwrap();
    let mut damaged = content.clone();
    damaged[LARGE - 1] ^= 1;
    std::fs::write(path(&bench).await, damaged).unwrap();
    let answer = answered(&space, ASKED[0]).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let length = answer.headers().get("content-length").unwrap().to_str().unwrap();
    assert_eq!(length, LARGE.to_string());
    assert!(to_bytes(answer.into_body()).await.is_err(), "it does not come to its end");
    space.put("name", "a/b", bits(b"")).await.unwrap();
    let empty = to_bytes(answered(&space, ASKED[0]).await.unwrap().into_body()).await.unwrap();
    assert!(empty.is_empty());
    space.put("name", "a/b", bits(b"short")).await.unwrap();
    let late = space.get("name").await.unwrap().unwrap();
    assert!(space.delete("name").await.unwrap());
    bench.sweep(DAY, Duration::ZERO).await;
    let answer = late.response(&TestRequest::default().to_http_request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
