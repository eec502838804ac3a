//! A content that is lost in its store: a client is told so, or sees that the answer is not whole.

use reqwest::{Method, Response};
use serde_json::Value;
use understudy_tests::{Client, oracle};

use super::content::Content;
use super::stage::Stage;

/// The node that writes to the database, of whose pieces a test can remove any.
const NODE: usize = 0;
const NAME: &str = "broken";
const CONTENT: Content = Content { seed: 30, mebibytes: 1 };

async fn ask(stage: &Stage, range: Option<&str>) -> Response {
    let path = format!("/shared?name={NAME}");
    let get = Client::new().build(Method::GET, stage.cluster.url(NODE), &path);
    let get = range.into_iter().fold(get, |get, range| get.header("range", range));
    get.send().await.unwrap()
}

fn lose(stage: &Stage, which: &str) {
    stage.cluster.postgres.query(&format!(
        "DELETE FROM us_file_piece WHERE {which} AND file IN \
         (SELECT id FROM us_file WHERE name = '{NAME}' AND state = 'ready')"
    ));
}

pub(super) async fn what_is_lost_is_a_problem_or_breaks_off(stage: &Stage) {
    stage.put(NODE, NAME, CONTENT).await.expect(200);
    lose(stage, "number = 3");
    let mut taken_for_whole = 0;
    for range in [None, Some("bytes=0-"), Some("bytes=0-9,300000-")] {
        let answer = ask(stage, range).await;
        assert!(answer.status().is_success(), "the first piece is there: {range:?}");
        taken_for_whole += usize::from(answer.bytes().await.is_ok());
    }
    oracle!("answers of 3 that came to an end although a piece is lost", taken_for_whole, 0);
    lose(stage, "true");
    let mut told = 0;
    for range in [None, Some("bytes=0-9"), Some("bytes=0-9,300000-")] {
        let answer = ask(stage, range).await;
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        told += usize::from((status, problem["code"].as_str()) == (500, Some("file_damaged")));
    }
    oracle!("answers of 3 that are a problem when nothing is there", told, 3);
    let path = format!("/shared?name={NAME}");
    Client::new().delete(stage.cluster.url(NODE), &path).await.unwrap().expect(200);
    stage.sweep().await;
}
