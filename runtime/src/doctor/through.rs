//! Looks at the cluster the way browsers do, through the balancer: which nodes answer, over what, and what reaches them.
//!
//! The address may be anything an operator gives, so little is done with it: requests go to fixed paths, follow no
//! redirect, and of the answers nothing is told but their status and what a node of this cluster says itself.

mod judging;
mod visit;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::{Checked, Outcome, checked};
use crate::config::ExternalUrl;
use crate::membership::MemberState;
use crate::service::NodeContext;
use visit::{Visit, visit};

/// How long the whole look may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What can be said: code, title, and what helps.
pub(super) const TITLES: &[(&str, &str, &str)] = &[
    (
        "balancer_ready",
        "Health through the balancer",
        "let the balancer send requests to ready nodes only, and look which ones it takes for dead",
    ),
    (
        "balancer_nodes",
        "Nodes behind the balancer",
        "put all nodes into the balancer's list, without stickiness: any node answers for any session",
    ),
    (
        "balancer_page",
        "A page through the balancer",
        "look into the balancer's error log, and at its address of the nodes",
    ),
    (
        "balancer_https",
        "Encryption to the balancer",
        "let the balancer speak TLS, and set UNDERSTUDY_HTTP_EXTERNAL_URL to the https:// address",
    ),
    (
        "balancer_headers",
        "What the balancer tells of clients",
        "let it set X-Forwarded-For, -Proto and -Host and pass Host on (deploy/nginx.conf), and put its address into UNDERSTUDY_HTTP_TRUSTED_PROXIES",
    ),
    (
        "balancer_body_limit",
        "Large requests through the balancer",
        "raise its limit (client_max_body_size of nginx) to UNDERSTUDY_HTTP_BODY_LIMIT_BYTES, or lower that",
    ),
    (
        "balancer_websocket",
        "WebSockets through the balancer",
        "let it pass Upgrade and Connection on (deploy/nginx.conf), if the application has WebSockets",
    ),
];

/// The address under which browsers reach the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Url(ExternalUrl);

impl Url {
    /// Reads an address of http or https, without user, query and fragment.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        ExternalUrl::parse(text).map(Self)
    }

    fn to(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl TryFrom<String> for Url {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an address of http or https is expected")
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0.to_string()
    }
}

/// Looks through the balancer; without an address says only that nobody asked for it.
pub(super) async fn look(node: &NodeContext, url: Option<Url>) -> Vec<Checked> {
    let begun = Instant::now();
    let each = |outcomes: Vec<Outcome>| {
        TITLES
            .iter()
            .zip(outcomes)
            .map(|(title, outcome)| checked(*title, outcome, begun))
            .collect()
    };
    let all = |outcome: Outcome| vec![outcome; TITLES.len()];
    let Some(url) = url else {
        return each(all(Outcome::skipped("looked at when the address is given (through)")));
    };
    let outcomes = match timeout(LIMIT, Box::pin(visit(node, &url))).await {
        Ok(Ok(visit)) => judged(node, &url, &visit),
        Ok(Err(why)) => all(Outcome::critical(why)),
        Err(_elapsed) => {
            all(Outcome::critical(format!("the look was not done within {} s", LIMIT.as_secs())))
        }
    };
    each(outcomes)
}

/// In the order of the titles.
fn judged(node: &NodeContext, url: &Url, visit: &Visit) -> Vec<Outcome> {
    let members = node.membership.members();
    let ready = members.iter().filter(|it| it.live && it.record.state == MemberState::Ready);
    let ready: Vec<&str> = ready.map(|it| it.record.id.name().as_str()).collect();
    let http = &node.config.http;
    vec![
        judging::ready(&visit.ready),
        judging::nodes(visit, &ready),
        judging::page(&visit.page),
        judging::encryption(url, http.external_url.as_ref()),
        judging::headers(url, &visit.seen, !http.trusted_proxies.is_empty()),
        judging::body(visit.body.as_ref()),
        judging::websocket(visit.websocket),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h8_only_plain_addresses_are_taken() {
        for good in ["https://shop.example", "http://10.0.0.5:8080/app/"] {
            assert!(Url::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "shop.example",
            "ftp://h",
            "file:///etc/passwd",
            "http://u:p@h",
            "http://h/?q",
            "http://h/#f",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
        let url = Url::parse("https://Shop.example:443/app/").unwrap();
        assert_eq!(url.to("/health/ready"), "https://shop.example/app/health/ready");
        let json = serde_json::to_string(&url).unwrap();
        assert_eq!(serde_json::from_str::<Url>(&json).unwrap(), url);
        assert!(serde_json::from_str::<Url>("\"gopher://h\"").is_err());
    }
}
