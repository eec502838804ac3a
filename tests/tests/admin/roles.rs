//! Every role at every route: what it may is answered, what it may not is refused, and nothing else is there.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use understudy_tests::{Client, oracle};

use super::stage::{Operation, ROLES, Stage};

/// Streams never end; their head is enough.
const STREAMS: [&str; 2] = ["events.watch", "logs.tail"];

async fn ask(client: &Client, url: &str, operation: &Operation) -> u16 {
    let request = client.build(operation.method.clone(), url, &operation.of_nobody());
    // A body that every operation that needs one refuses, so that nothing is done by those who may.
    let request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "*/*");
    let request = if operation.method == reqwest::Method::GET {
        request
    } else {
        request.body(r#"{"unknown to all":1}"#)
    };
    let answer = request.timeout(Duration::from_secs(10)).send().await.expect("an answer");
    answer.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn x1_every_role_may_at_every_route_what_is_written_down_and_no_more() {
    let stage = Stage::start().await;
    let operations = stage.operations().await;
    oracle!("operations", operations.len(), >= 50);
    let mut clients = BTreeMap::new();
    for role in ROLES {
        let (_, token) = stage.token(role).await;
        clients.insert(role, Client::new().bearing(&token));
    }
    let rank = |role: &str| ROLES.iter().position(|known| *known == role);
    let (mut wrong, mut pairs) = (Vec::new(), 0);
    for operation in &operations {
        for (who, client) in
            [("nobody", Client::new()), ("a stranger", Client::new().bearing("no-such-token"))]
        {
            let status = ask(&client, stage.url(), operation).await;
            if status != 401 {
                wrong.push(format!("{who}: {} gave {status}", operation.id));
            }
            pairs += 1;
        }
        for role in ROLES {
            let status = ask(&clients[role], stage.url(), operation).await;
            let may = rank(role) >= rank(&operation.role);
            let as_written = if may {
                !matches!(status, 401 | 403 | 405) && status < 500
            } else {
                status == 403
            };
            // What is not there on a node on its own may say so.
            if !(as_written || may && matches!(status, 501 | 503)) {
                wrong.push(format!(
                    "{role}: {} gave {status}, needs {}",
                    operation.id, operation.role
                ));
            }
            pairs += 1;
        }
    }
    oracle!("pairs of who asks and what for", pairs, operations.len() * (ROLES.len() + 2));
    oracle!("pairs answered otherwise than written down", format!("{wrong:?}"), "[]".to_owned());
    let streams = operations.iter().filter(|operation| STREAMS.contains(&operation.id.as_str()));
    oracle!("streams that are known to never end", streams.count(), <= STREAMS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn x1_what_is_written_down_nowhere_is_not_there() {
    let stage = Stage::start().await;
    for path in
        ["/v1", "/v1/secret", "/v2/about", "/v1/about/", "/admin", "/v1/nodes/a/b/c", "/metrics/"]
    {
        stage.get(path).await.expect(404);
    }
    let answer = stage.admin.delete(stage.url(), "/v1/about").await.expect("an answer");
    let problem: Value = answer.expect(405).json();
    oracle!("methods that are allowed", problem["allowed"], json!("GET"));
}
