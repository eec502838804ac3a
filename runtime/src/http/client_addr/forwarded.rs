//! Reads `Forwarded` (RFC 7239) from its right end.
//!
//! Reading from the left would let a client hide what a proxy appends: `for="x` without a closing quote swallows
//! the rest of the line. From the right, the client's part is reached only when everything after it was read.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What one proxy said of the hop before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// The `for` parameter; `None` when it is missing or not of a known form.
    pub(super) node: Option<Node>,
    pub(super) proto: Option<Cow<'a, str>>,
    pub(super) host: Option<Cow<'a, str>>,
}

/// The sender of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Address(IpAddr),
    /// `unknown` or `_name`: the proxy does not want to tell.
    Hidden,
}

/// Walks the elements of one line from the right; ends with `None` at the first that cannot be read.
pub(super) fn rightmost_elements(line: &[u8]) -> impl Iterator<Item = Option<Element<'_>>> {
    let mut rest = std::str::from_utf8(line).map_err(|_| ());
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let Ok(text) = rest else {
            done = true;
            return Some(None);
        };
        let Some(comma) = last_outside_quotes(text, b',') else {
            done = true;
            return Some(None);
        };
        let (left, element) = match comma {
            Some(at) => (Ok(&text[..at]), &text[at + 1..]),
            None => {
                done = true;
                (Err(()), text)
            }
        };
        rest = left;
        let element = parse_element(element);
        done |= element.is_none();
        Some(element)
    })
}

/// Reads an address with an optional port, or a hidden sender; quotes are already gone.
pub(super) fn parse_node(text: &str) -> Option<Node> {
    if text.eq_ignore_ascii_case("unknown") {
        return Some(Node::Hidden);
    }
    if let Some(name) = text.strip_prefix('_') {
        let is_obfuscated = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        return (!name.is_empty() && name.bytes().all(is_obfuscated)).then_some(Node::Hidden);
    }
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        port_is_good.then(|| address.parse::<Ipv6Addr>().ok())?.map(IpAddr::V6)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        Some(address)
    } else if let Ok(SocketAddr::V4(socket)) = text.parse() {
        Some(IpAddr::V4(*socket.ip()))
    } else {
        // An obfuscated port: `1.2.3.4:_p`.
        let (address, port) = text.split_once(':')?;
        is_port(port).then(|| address.parse::<Ipv4Addr>().ok())?.map(IpAddr::V4)
    };
    address.map(|address| Node::Address(address.to_canonical()))
}

fn is_port(text: &str) -> bool {
    let digits = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    !text.is_empty() && (digits || text.starts_with('_'))
}

/// Finds the last `wanted` that is not inside quotes. Outer `None`: the quotes do not match.
fn last_outside_quotes(text: &str, wanted: u8) -> Option<Option<usize>> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for at in (0..bytes.len()).rev() {
        if bytes[at] == b'"' && !is_escaped(bytes, at) {
            quoted = !quoted;
        } else if bytes[at] == wanted && !quoted {
            return Some(Some(at));
        }
    }
    (!quoted).then_some(None)
}

fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

fn parse_element(text: &str) -> Option<Element<'_>> {
    let mut element = Element { node: None, proto: None, host: None };
    let mut seen_for = false;
    let mut rest = Some(text);
    while let Some(text) = rest {
        let pair = match last_outside_quotes(text, b';')? {
            Some(at) => {
                rest = Some(&text[..at]);
                &text[at + 1..]
            }
            None => {
                rest = None;
                text
            }
        };
        let pair = pair.trim();
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let value = unquote(value)?;
        if name.eq_ignore_ascii_case("for") {
            // RFC 7239 section 4: each parameter at most once.
            if std::mem::replace(&mut seen_for, true) {
                return None;
            }
            element.node = parse_node(&value);
        } else if name.eq_ignore_ascii_case("proto") {
            element.proto = Some(value);
        } else if name.eq_ignore_ascii_case("host") {
            element.host = Some(value);
        }
    }
    Some(element)
}

fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains(['"', ' ', '\t'])).then_some(Cow::Borrowed(value));
    };
    let inner = inner.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next()?),
            '"' => return None,
            other => plain.push(other),
        }
    }
    Some(Cow::Owned(plain))
}
