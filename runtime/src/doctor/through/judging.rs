//! What the answers that came through the balancer mean; pure.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Outcome;
use super::super::probes::Seen;
use super::super::redis::is_loopback;
use super::Url;
use super::visit::{Body, Visit};
use crate::config::ExternalUrl;

/// Writes how often each status came: `200 9 times, no answer once`.
fn counted(statuses: &[u16]) -> String {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for status in statuses {
        *counts.entry(*status).or_default() += 1;
    }
    let each = counts.into_iter().map(|(status, count)| {
        let what = if status == 0 { "no answer".to_owned() } else { status.to_string() };
        if count == 1 { format!("{what} once") } else { format!("{what} {count} times") }
    });
    each.collect::<Vec<_>>().join(", ")
}

pub(super) fn ready(statuses: &[u16]) -> Outcome {
    let good = statuses.iter().filter(|status| **status == 200).count();
    if good == statuses.len() {
        return Outcome::ok(counted(statuses));
    }
    if statuses.iter().all(|status| *status == 0) {
        return Outcome::critical("nothing answers at this address").fix(
            "look whether the balancer runs, and at the address, its port and its certificate",
        );
    }
    let text = format!("/health/ready: {}", counted(statuses));
    match statuses.iter().any(|status| *status == 0 || *status >= 500) {
        true => Outcome::critical(text),
        // Who keeps it from strangers means well.
        false => Outcome::warning(format!("{text}; fine if the balancer keeps it from strangers")),
    }
}

pub(super) fn nodes(visit: &Visit, ready: &[&str]) -> Outcome {
    if visit.seen.is_empty() {
        return Outcome::critical(format!("no node of this cluster was reached: {}", counted(&visit.strange)))
            .fix("give the address that leads to this cluster, and let the balancer pass all paths on to the nodes");
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in &visit.seen {
        *counts.entry(&seen.node).or_default() += 1;
    }
    let shown: Vec<String> = counts.iter().map(|(node, count)| format!("{node} {count}")).collect();
    let shown = shown.join(", ");
    if !visit.strange.is_empty() {
        return Outcome::critical(format!("{shown}; other answers: {}", counted(&visit.strange)))
            .fix("look which nodes the balancer takes for dead, and what else stands in its list");
    }
    let answered: BTreeSet<&str> = counts.keys().copied().collect();
    let missing: Vec<&str> =
        ready.iter().copied().filter(|node| !answered.contains(node)).collect();
    if missing.is_empty() {
        return Outcome::ok(format!("answers by node: {shown}"));
    }
    Outcome::warning(format!("answers by node: {shown}; none from {}", missing.join(", ")))
}

pub(super) fn page(statuses: &[u16]) -> Outcome {
    let text = format!("/: {}", counted(statuses));
    match statuses.iter().any(|status| *status == 0 || *status >= 500) {
        true => Outcome::critical(text),
        false => Outcome::ok(text),
    }
}

pub(super) fn encryption(url: &Url, external: Option<&ExternalUrl>) -> Outcome {
    let host =
        |authority: &str| authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned();
    let Url(asked) = url;
    if !asked.is_https() {
        return match is_loopback(&host(&asked.authority)) {
            true => Outcome::ok("http, but it does not leave this machine"),
            false => Outcome::warning("http: whoever is between can take over sessions"),
        };
    }
    match external {
        Some(external) if external.is_https() => Outcome::ok("https"),
        Some(_) | None => {
            Outcome::warning("https, but the nodes do not know it: cookies are not marked Secure")
        }
    }
}

pub(super) fn headers(url: &Url, seen: &[Seen], trusts: bool) -> Outcome {
    let Some(first) = seen.first() else {
        return Outcome::skipped("no node was reached");
    };
    if let Some(ignored) = seen.iter().find(|it| it.ignored) {
        let text = format!(
            "its word is not believed: it comes from {}, which is not trusted",
            ignored.peer
        );
        return Outcome::warning(text)
            .fix(format!("add {} to UNDERSTUDY_HTTP_TRUSTED_PROXIES", ignored.peer));
    }
    let Url(asked) = url;
    let told = |it: &Seen| it.forwarded_host.clone().unwrap_or_else(|| it.host.clone());
    if let Some(other) = seen.iter().find(|it| told(it) != asked.authority) {
        return Outcome::warning(format!(
            "nodes see the host {}, but browsers ask for {}: links lead elsewhere, and requests that change something \
             are taken for those of another site",
            told(other),
            asked.authority
        ))
        .fix("let the balancer pass Host on, or set X-Forwarded-Host");
    }
    let scheme = asked.scheme.to_string();
    if asked.is_https() && seen.iter().any(|it| it.scheme.as_deref() != Some(scheme.as_str())) {
        return Outcome::warning("nodes do not hear that browsers come by https")
            .fix("let the balancer set X-Forwarded-Proto");
    }
    if trusts && seen.iter().all(|it| it.client == it.peer) && !is_loopback(&first.peer) {
        return Outcome::warning(
            "nodes take the balancer for the client: it does not tell who that is",
        )
        .fix("let the balancer set X-Forwarded-For");
    }
    Outcome::ok(format!("nodes see the client {} and the host {}", first.client, told(first)))
}

pub(super) fn body(body: Option<&Body>) -> Outcome {
    let Some(body) = body else { return Outcome::skipped("no node was reached") };
    let Body { sent, limit, arrived, status } = body;
    match arrived {
        Some(arrived) if *arrived == *sent as u64 && sent == limit => {
            Outcome::ok(format!("a body of {sent} bytes, as large as nodes take, arrives"))
        }
        Some(arrived) if *arrived == *sent as u64 => {
            Outcome::ok(format!("a body of {sent} bytes arrives; larger ones were not tried"))
        }
        Some(arrived) => Outcome::critical(format!("of {sent} bytes {arrived} arrived")),
        None if *status == 413 => Outcome::warning(format!(
            "a body of {sent} bytes is refused on the way (413), though nodes take {limit}"
        )),
        None => Outcome::warning(format!("a body of {sent} bytes: {}", counted(&[*status]))),
    }
}

pub(super) fn websocket(came: Option<Result<bool, u16>>) -> Outcome {
    match came {
        None => Outcome::skipped("no node was reached"),
        Some(Ok(true)) => Outcome::ok("a request for a WebSocket arrives as one"),
        Some(Ok(false)) => Outcome::warning(
            "a request for a WebSocket arrives as an ordinary one; fine if the application has none",
        ),
        Some(Err(status)) => {
            Outcome::warning(format!("a request for a WebSocket: {}", counted(&[status])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Verdict::{Critical, Ok as Good, Skipped, Warning};
    use super::*;

    fn seen(node: &str) -> Seen {
        Seen {
            node: node.to_owned(),
            peer: "10.0.0.1".to_owned(),
            client: "192.0.2.7".to_owned(),
            scheme: Some("https".to_owned()),
            forwarded_host: None,
            host: "shop.example".to_owned(),
            ignored: false,
            bytes: 0,
            websocket: false,
        }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn h8_statuses_are_counted_and_judged() {
        assert_eq!(counted(&[200, 0, 200, 503]), "no answer once, 200 2 times, 503 once");
        for (statuses, expected) in [
            (&[200, 200][..], Good),
            (&[200, 503], Critical),
            (&[0, 0], Critical),
            (&[404, 404], Warning),
        ] {
            assert_eq!(ready(statuses).verdict, expected, "{statuses:?}");
        }
        assert_eq!((page(&[200, 404]).verdict, page(&[200, 502]).verdict), (Good, Critical));
    }

    #[test]
    fn h8_nodes_that_never_answer_are_named() {
        let visit = |nodes: &[&str], strange: &[u16]| Visit {
            seen: nodes.iter().map(|node| seen(node)).collect(),
            strange: strange.to_vec(),
            ..Visit::default()
        };
        assert_eq!(nodes(&visit(&["a", "b", "a"], &[]), &["a", "b"]).verdict, Good);
        let found = nodes(&visit(&["a", "a"], &[]), &["a", "b"]);
        assert_eq!(found.verdict, Warning);
        assert_eq!(found.text, "answers by node: a 2; none from b");
        assert_eq!(nodes(&visit(&["a"], &[502]), &["a"]).verdict, Critical);
        assert_eq!(nodes(&visit(&[], &[404, 404]), &["a"]).verdict, Critical);
    }

    #[test]
    fn h8_what_the_balancer_tells_is_judged() {
        let shop = url("https://shop.example");
        let with = |change: fn(&mut Seen)| {
            let mut changed = seen("a");
            change(&mut changed);
            headers(&shop, &[seen("b"), changed], true)
        };
        assert_eq!(with(|_| ()).verdict, Good);
        let ignored = with(|it| it.ignored = true);
        assert_eq!(ignored.fix, "add 10.0.0.1 to UNDERSTUDY_HTTP_TRUSTED_PROXIES");
        assert_eq!(with(|it| it.host = "node-a:8080".to_owned()).verdict, Warning);
        assert_eq!(with(|it| it.forwarded_host = Some("shop.example".to_owned())).verdict, Good);
        assert_eq!(with(|it| it.scheme = None).verdict, Warning);
        let mut hidden = seen("a");
        hidden.client = hidden.peer.clone();
        assert_eq!(headers(&shop, &[hidden], true).verdict, Warning);
        assert_eq!(headers(&shop, &[], true).verdict, Skipped);
    }

    #[test]
    fn h8_encryption_is_wanted_and_must_be_known_to_the_nodes() {
        let external = |text: &str| ExternalUrl::parse(text);
        let of =
            |asked: &str, known: &str| encryption(&url(asked), external(known).as_ref()).verdict;
        assert_eq!(of("https://h", "https://h"), Good);
        assert_eq!(of("https://h", "http://h"), Warning);
        assert_eq!(of("http://h", "http://h"), Warning);
        assert_eq!(of("http://127.0.0.1:8080", "http://h"), Good);
    }

    #[test]
    fn h8_a_balancer_that_knows_no_websockets_is_found() {
        let of = |came| websocket(came).verdict;
        assert_eq!((of(None), of(Some(Ok(true)))), (Skipped, Good));
        assert_eq!((of(Some(Ok(false))), of(Some(Err(400)))), (Warning, Warning));
    }

    #[test]
    fn h8_a_smaller_limit_of_the_balancer_is_found() {
        let of =
            |arrived, status| body(Some(&Body { sent: 100, limit: 100, arrived, status })).verdict;
        assert_eq!(of(Some(100), 200), Good);
        assert_eq!(of(Some(99), 200), Critical);
        assert_eq!(of(None, 413), Warning);
        assert_eq!(of(None, 0), Warning);
        assert_eq!(body(None).verdict, Skipped);
    }
}
