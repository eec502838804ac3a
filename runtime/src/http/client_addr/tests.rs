//! Row T5 and rows 1 and 2 of the bad inputs: who is believed about a client's address.

use actix_web::http::header::{HeaderName, HeaderValue};

use super::*;

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "198.51.100.7";

fn proxies() -> TrustedProxies {
    TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
}

fn ask(peer: &str, lines: &[(&'static str, &str)]) -> Origin {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    proxies().origin_of(peer.parse().unwrap(), &headers)
}

fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
    ask(peer, lines).client.to_string()
}

#[test]
fn t5_a_stranger_is_never_believed() {
    let hops = vec!["1.2.3.4"; 50].join(", ");
    let lies = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-for", "10.0.0.9"),
        ("forwarded", "for=\"[::1]\""),
        ("forwarded", "for=1.2.3.4;proto=https;host=evil.test"),
        ("x-forwarded-for", hops.as_str()),
        ("x-forwarded-for", "unknown"),
        ("x-forwarded-for", "_x"),
        ("x-forwarded-for", "1.2.3.4:5"),
        ("x-forwarded-for", "\"';--"),
    ];
    for lie in lies {
        let origin = ask(STRANGER, &[lie]);
        assert_eq!(origin.client.to_string(), STRANGER, "{lie:?}");
        assert!(origin.ignored && origin.scheme.is_none() && origin.host.is_none(), "{lie:?}");
    }
}

#[test]
fn t5_the_right_most_untrusted_address_is_the_client() {
    let table = [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6,203.0.113.9,10.0.0.2", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9 , 10.0.0.2, 10.9.9.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
        ("203.0.113.9, fd00::5", "203.0.113.9"),
        // Nobody but trusted proxies: the one furthest away is the client.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ];
    for (list, expected) in table {
        assert_eq!(client(PROXY, &[("x-forwarded-for", list)]), expected, "{list}");
        let forwarded = list.split(',').map(|node| format!("for=\"{}\"", bracketed(node.trim())));
        let forwarded = forwarded.collect::<Vec<_>>().join(", ");
        assert_eq!(client(PROXY, &[("forwarded", &forwarded)]), expected, "{forwarded}");
    }
}

/// `Forwarded` wants IPv6 in brackets; `X-Forwarded-For` takes both.
fn bracketed(node: &str) -> String {
    if node.parse::<Ipv6Addr>().is_ok() { format!("[{node}]") } else { node.to_owned() }
}

#[test]
fn t5_what_cannot_be_read_ends_the_walk_at_the_last_known_address() {
    let table = [
        ("", PROXY),
        (",", PROXY),
        ("unknown", PROXY),
        ("_hidden", PROXY),
        ("1.2.3.4, unknown", PROXY),
        ("1.2.3.4, garbage", PROXY),
        ("1.2.3.4, 10.0.0.2:99999x", PROXY),
        ("1.2.3.4, , 10.0.0.2", "10.0.0.2"),
        ("garbage, 203.0.113.9", "203.0.113.9"),
        ("1.2.3.4.5", PROXY),
        ("0x7f.1", PROXY),
        ("127.1", PROXY),
        ("203.0.113.9/24", PROXY),
        ("[::1", PROXY),
        ("::1]", PROXY),
        ("[]", PROXY),
        ("fe80::1%eth0", PROXY),
    ];
    for (list, expected) in table {
        assert_eq!(client(PROXY, &[("x-forwarded-for", list)]), expected, "{list:?}");
    }
}

#[test]
fn t5_a_client_cannot_hide_what_the_proxy_appended_to_forwarded() {
    let table = [
        "for=\"6.6.6.6, for=203.0.113.9",
        "for=6.6.6.6\", for=203.0.113.9",
        "for=\"\\\", for=203.0.113.9",
        "\"\"\", for=203.0.113.9;proto=http",
        "for=6.6.6.6;by=\", For=\"203.0.113.9\"",
        "for=6.6.6.6;;;, for=203.0.113.9;by=10.0.0.1",
        ",,,=,;, FOR=203.0.113.9",
    ];
    for line in table {
        assert_eq!(client(PROXY, &[("forwarded", line)]), "203.0.113.9", "{line}");
    }
}

#[test]
fn t5_lines_are_read_from_the_last_to_the_first() {
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(client(PROXY, &lines), "203.0.113.9");
    let lines = [("forwarded", "for=\"unclosed"), ("forwarded", "for=203.0.113.9")];
    assert_eq!(client(PROXY, &lines), "203.0.113.9");
    let lines = [("forwarded", "for=203.0.113.9"), ("forwarded", "for=10.0.0.2")];
    assert_eq!(client(PROXY, &lines), "203.0.113.9");
}

#[test]
fn t5_forwarded_and_x_forwarded_are_never_mixed() {
    let lines = [
        ("forwarded", "for=203.0.113.9"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.test"),
    ];
    let origin = ask(PROXY, &lines);
    assert_eq!(origin.client.to_string(), "203.0.113.9");
    assert_eq!((origin.scheme, origin.host), (None, None));
}

#[test]
fn t5_scheme_and_host_come_from_the_same_hop_as_the_client() {
    let https = Some(Scheme::Https);
    let http = Some(Scheme::Http);
    let table = [
        // (for, proto, scheme): a client that prepends its own is not heard.
        ("203.0.113.9", "https", https),
        ("203.0.113.9", "https, http", http),
        ("6.6.6.6, 203.0.113.9", "https, http", http),
        ("203.0.113.9, 10.0.0.2", "https, http", https),
        ("203.0.113.9, 10.0.0.2", "https", https),
        ("203.0.113.9", "ftp", None),
        ("203.0.113.9", "HTTPS", https),
    ];
    for (addresses, proto, expected) in table {
        let lines = [("x-forwarded-for", addresses), ("x-forwarded-proto", proto)];
        assert_eq!(ask(PROXY, &lines).scheme, expected, "{addresses} {proto}");
    }
    let line =
        "for=6.6.6.6;proto=http, for=203.0.113.9;proto=https;host=\"App.Test:8443\", for=10.0.0.2";
    let origin = ask(PROXY, &[("forwarded", line)]);
    assert_eq!((origin.scheme, origin.host.as_deref()), (https, Some("app.test:8443")));
}

#[test]
fn t5_a_forwarded_host_is_a_plain_authority_or_nothing() {
    for good in ["a.test", "a.test:8080", "[::1]", "[::1]:80", "10.0.0.1:1", "A_b-c.test"] {
        assert_eq!(plain_authority(good), Some(good.to_lowercase()), "{good}");
    }
    let bad = [
        "", ":80", "a:b", "a/b", "user@a", "a b", "a\r\nb", "[::1", "[x]:1", "a:99999", "a:1:2",
        "ä",
    ];
    for bad in bad {
        assert_eq!(plain_authority(bad), None, "{bad}");
    }
}

#[test]
fn t5_too_many_hops_are_an_attack() {
    let list = vec!["10.0.0.2"; 200].join(",");
    let origin = ask(PROXY, &[("x-forwarded-for", &list)]);
    assert!(origin.ignored);
    assert_eq!(origin.client.to_string(), "10.0.0.2");
}

#[test]
fn t5_without_trusted_networks_nobody_is_believed() {
    let mut headers = HeaderMap::new();
    headers.append(X_FORWARDED_FOR.clone(), HeaderValue::from_static("1.2.3.4"));
    let origin = TrustedProxies::default().origin_of("127.0.0.1".parse().unwrap(), &headers);
    assert_eq!(origin.client.to_string(), "127.0.0.1");
}

#[test]
fn t5_no_bytes_make_the_parser_panic() {
    // A small deterministic fuzzer over the characters that mean something to one of the parsers.
    let alphabet = b"for=\"\\,;[]:._ 10.0.1aF%unkow\t\xff";
    let mut state = 0x9e37_79b9_u32;
    for _ in 0..50_000 {
        let mut line = Vec::new();
        for _ in 0..(state >> 7) % 40 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            line.push(alphabet[(state >> 16) as usize % alphabet.len()]);
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let Ok(value) = HeaderValue::from_bytes(&line) else { continue };
        for name in [&FORWARDED, &X_FORWARDED_FOR] {
            let mut headers = HeaderMap::new();
            headers.append(name.clone(), value.clone());
            headers.append(X_FORWARDED_PROTO.clone(), value.clone());
            headers.append(X_FORWARDED_HOST.clone(), value.clone());
            let _origin = proxies().origin_of(PROXY.parse().unwrap(), &headers);
        }
    }
}
