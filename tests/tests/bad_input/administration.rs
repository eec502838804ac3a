//! Row 12: calls to the administration without the right to make them.

use std::net::Ipv4Addr;

use reqwest::Method;
use understudy_tests::{Answer, Client, Node, oracle, wait};

use super::wire::{LIMIT, Wire, node};

const ADMIN: &str = "canary-admin-0123456789";
const OPERATOR: &str = "canary-operator-0123456789";
const VIEWER: &str = "canary-viewer-0123456789";
const RESOURCES: [&str; 4] = ["/metrics", "/v1/about", "/v1/nodes", "/v1/config"];

async fn ask(node: &Node, method: &str, path: &str, authorization: &str) -> Answer {
    let client = Client::new();
    let method: Method = method.parse().unwrap();
    let request = client.build(method, node.admin_url(), path);
    let request = match authorization {
        "" => request,
        text => request.header("authorization", text),
    };
    client.send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_without_a_token_a_call_is_refused_whatever_was_wrong() {
    let node = node(&[
        ("ADMIN_TOKEN", ADMIN),
        ("ADMIN_OPERATOR_TOKEN", OPERATOR),
        ("ADMIN_VIEWER_TOKEN", VIEWER),
    ])
    .await;
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer wrong".to_owned(),
        format!("Bearer {}", &ADMIN[..ADMIN.len() - 1]),
        format!("Bearer {ADMIN}x"),
        format!("Bearer {}", ADMIN.to_uppercase()),
        format!("Basic {ADMIN}"),
        ADMIN.to_owned(),
    ];
    let mut lengths = std::collections::BTreeSet::new();
    for resource in RESOURCES {
        for authorization in &wrong {
            let answer = ask(&node, "GET", resource, authorization).await.expect(401);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            lengths.insert(answer.text.len());
        }
        for query in ["token", "access_token", "authorization"] {
            ask(&node, "GET", &format!("{resource}?{query}={ADMIN}"), "").await.expect(401);
        }
        for token in [ADMIN, OPERATOR, VIEWER] {
            ask(&node, "GET", resource, &format!("Bearer {token}")).await.expect(200);
            let answer = ask(&node, "POST", resource, &format!("bearer {token}")).await;
            let expected: &[u16] = if token == VIEWER { &[403] } else { &[404, 405] };
            assert!(expected.contains(&answer.status), "{token}: {answer:?}");
        }
    }
    oracle!("different lengths of refusals", lengths.len(), 1);
    ask(&node, "GET", "/health/live", "").await.expect(200);
    let log = node.log();
    let told = [ADMIN, OPERATOR, VIEWER].iter().filter(|token| log.contains(**token)).count();
    oracle!("tokens in the log", told, 0);
    let refusals = |status: u16| {
        node.events().iter().filter(|event| event["fields"]["http.status_code"] == status).count()
    };
    let all = RESOURCES.len() * (wrong.len() + 3);
    wait::until("the refusals are in the log", LIMIT, async || refusals(401) >= all).await;
    oracle!("refusals that were written down", refusals(401), all);
    oracle!("refusals of a viewer's POST that were written down", refusals(403), RESOURCES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_on_loopback_anybody_may_look_and_nobody_may_do_more() {
    let node = node(&[]).await;
    for resource in RESOURCES {
        ask(&node, "GET", resource, "").await.expect(200);
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            ask(&node, method, resource, "").await.expect(401);
        }
    }
    // A page that lets its own name point to this machine.
    let mut wire = Wire::from(Ipv4Addr::LOCALHOST, node.admin_url()).await;
    wire.send("GET /v1/config HTTP/1.1\r\nHost: evil.test\r\n\r\n").await;
    assert_eq!(wire.answer().await.expect("an answer").status, 403);
    // The public port knows nothing of it.
    for resource in RESOURCES {
        Client::new().get(node.public_url(), resource).await.unwrap().expect(404);
    }
}
