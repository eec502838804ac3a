use actix_web::test::TestRequest;

use super::*;

const KIND: &str = "multipart/form-data; boundary=\"a b\"";
const GOOD: &str = "preamble\r\n--a b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n\
    --a b  \r\ncontent-disposition: form-data; filename=\"C:\\dir\\x%22.png\"; name=file\r\n\
    Content-Type: image/png\r\n\r\n\r\n--a\r\n-- b\r\n\r\n--a b\r\n\
    Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n\r\n--a b--\r\nepilogue";

/// The body, in bits of so many bytes.
fn form(kind: &str, body: &str, bit: usize) -> Result<Form, FileError> {
    let request = TestRequest::default().insert_header(("content-type", kind)).to_http_request();
    let bits: Vec<Result<Bytes, String>> =
        body.as_bytes().chunks(bit).map(|bit| Ok(Bytes::copy_from_slice(bit))).collect();
    Form::of(&request, stream::iter(bits))
}

type Read = (String, Option<String>, String, String);

async fn read(mut form: Form) -> Result<Vec<Read>, FileError> {
    let mut all = Vec::new();
    while let Some(part) = form.next().await? {
        let (field, name) = (part.field().to_owned(), part.file_name().map(str::to_owned));
        let kind = part.content_type().to_owned();
        let mut content = Vec::new();
        let mut pieces = std::pin::pin!(part.content());
        while let Some(piece) = pieces.next().await {
            content.extend_from_slice(&piece?);
        }
        all.push((field, name, kind, String::from_utf8(content).unwrap()));
    }
    Ok(all)
}

#[tokio::test]
async fn a_form_is_read_however_it_comes() {
    let part = |field: &str, name: Option<&str>, kind: &str, content: &str| -> Read {
        (field.to_owned(), name.map(str::to_owned), kind.to_owned(), content.to_owned())
    };
    let expected = vec![
        part("note", None, "text/plain", "hello"),
        part("file", Some("C:\\dir\\x\".png"), "image/png", "\r\n--a\r\n-- b\r\n"),
        part("none", Some(""), UNKNOWN_TYPE, ""),
    ];
    for bit in 1..GOOD.len() {
        assert_eq!(read(form(KIND, GOOD, bit).unwrap()).await.unwrap(), expected, "bits of {bit}");
    }
}

#[tokio::test]
async fn a_part_that_is_not_read_is_passed_over_and_text_is_bounded() {
    let mut passed = form(KIND, GOOD, 7).unwrap();
    let mut fields = Vec::new();
    while let Some(part) = passed.next().await.unwrap() {
        fields.push(part.field().to_owned());
    }
    assert_eq!(fields, ["note", "file", "none"]);
    assert!(passed.next().await.unwrap().is_none(), "the end is the end");
    let mut note = form(KIND, GOOD, 7).unwrap();
    assert_eq!(note.next().await.unwrap().unwrap().text(5).await.unwrap(), "hello");
    let mut long = form(KIND, GOOD, 7).unwrap();
    let refused = long.next().await.unwrap().unwrap().text(4).await;
    assert!(matches!(refused, Err(FileError::TooLarge { most: 4 })), "{refused:?}");
}

#[tokio::test]
async fn row_15_what_is_no_form_is_refused() {
    for kind in [
        "",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"x",
        "text/plain; boundary=x",
    ] {
        assert!(matches!(form(kind, GOOD, 9), Err(FileError::BadForm { .. })), "{kind}");
    }
    let head = "--x\r\nContent-Disposition: form-data; name=\"a\"";
    let kind = "multipart/form-data; boundary=x";
    let long = format!("{head}\r\nX: {}\r\n\r\n\r\n--x--", "y".repeat(9_000));
    let many = format!("{}--x--", format!("{head}\r\n\r\n\r\n").repeat(1_001));
    for body in [
        "",
        "--x",
        "--x--y".get(..4).unwrap(),
        "--xy\r\n",
        &format!("{head}\r\n\r\n"),
        &format!("{head}\r\n\r\nhello"),
        &format!("{head}\r\n\r\nhello\r\n--x"),
        "--x\r\n\r\nhello\r\n--x--",
        "--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--",
        "--x\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--x--",
        "--x\r\nno line\r\n\r\n\r\n--x--",
        "--x\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--x--",
        &long,
        &many,
    ] {
        let refused = read(form(kind, body, 1_000).unwrap()).await;
        assert!(matches!(refused, Err(FileError::BadForm { .. })), "{body:.60}: {refused:?}");
    }
}
