//! The many ways to write where Redis is: a URL, a comma list of hosts or URLs, a JSON array.
//!
//! Texts of errors never hold a part of what was given: there may be a password in it.

use std::net::Ipv6Addr;

use serde_json::Value;

/// What an address says; whatever it leaves open is decided by the other options.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Address {
    pub(in crate::config) kind: Option<Kind>,
    pub(in crate::config) tls: Option<bool>,
    /// Host and port; the port's default depends on what the hosts turn out to be.
    pub(in crate::config) hosts: Vec<(String, Option<u16>)>,
    pub(in crate::config) db: Option<u8>,
    pub(in crate::config) username: Option<String>,
    pub(in crate::config) password: Option<String>,
    pub(in crate::config) service: Option<String>,
    pub(in crate::config) sentinel_username: Option<String>,
    pub(in crate::config) sentinel_password: Option<String>,
}

/// What a scheme says about the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Kind {
    /// `redis://`: any server, which may also be part of a Cluster.
    Server,
    /// `redis-sentinel://`
    Sentinel,
    /// `redis-cluster://`
    Cluster,
}

/// What is wrong with an address, without any part of it.
pub(in crate::config) type Wrong = String;

impl Address {
    pub(in crate::config) fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        let mut address = Self::default();
        // A list of hosts may begin with an IPv6 address, in brackets too.
        let array = text.strip_prefix('[').map(str::trim_start);
        if array.is_some_and(|rest| rest.starts_with(['{', '"', ']'])) {
            address.add_array(text)?;
        } else {
            for part in text.split(',') {
                address.add_part(part.trim())?;
            }
        }
        if address.hosts.is_empty() {
            return Err("names no host".to_owned());
        }
        Ok(address)
    }

    /// Adds `[{"host":"a","port":1},"b:2"]`.
    fn add_array(&mut self, text: &str) -> Result<(), Wrong> {
        let entries: Vec<Value> = serde_json::from_str(text).map_err(|error| {
            format!("is not valid JSON, at line {} column {}", error.line(), error.column())
        })?;
        for entry in entries {
            match entry {
                Value::String(part) => self.add_part(part.trim())?,
                Value::Object(entry) => self.hosts.push(host_of_object(&entry)?),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                    return Err(r#"must hold objects {"host":"..","port":6379}"#.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Adds `scheme://user:password@host:port/db?option=value`, of which all but the host may be missing.
    fn add_part(&mut self, part: &str) -> Result<(), Wrong> {
        let rest = match part.split_once("://") {
            Some((scheme, rest)) => {
                let (kind, tls) = scheme_of(scheme)?;
                once(&mut self.kind, kind, "scheme")?;
                once(&mut self.tls, tls, "scheme")?;
                rest
            }
            None => part,
        };
        if rest.contains('#') {
            return Err("holds a #; write it as %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        if let Some(credentials) = credentials {
            self.add_credentials(credentials)?;
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        self.hosts.push(host_and_port(host)?);
        if !path.is_empty() {
            let db = digits(path).ok_or("has a path that is not the number of a database")?;
            once(&mut self.db, db, "database")?;
        }
        for option in query.split('&').filter(|option| !option.is_empty()) {
            self.add_option(option)?;
        }
        Ok(())
    }

    fn add_credentials(&mut self, credentials: &str) -> Result<(), Wrong> {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        if !user.is_empty() {
            once(&mut self.username, unescaped(user)?, "user")?;
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            once(&mut self.password, unescaped(password)?, "password")?;
        }
        Ok(())
    }

    fn add_option(&mut self, option: &str) -> Result<(), Wrong> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = unescaped(value)?;
        match name {
            "node" => self.hosts.push(host_and_port(&value)?),
            "sentinelServiceName" => once(&mut self.service, value, "sentinelServiceName")?,
            "sentinelUsername" => once(&mut self.sentinel_username, value, "sentinelUsername")?,
            "sentinelPassword" => once(&mut self.sentinel_password, value, "sentinelPassword")?,
            _ => {
                return Err("has an option behind ? that is not known; known are node, \
                            sentinelServiceName, sentinelUsername, sentinelPassword"
                    .to_owned());
            }
        }
        Ok(())
    }
}

fn scheme_of(scheme: &str) -> Result<(Kind, bool), Wrong> {
    let scheme = scheme.to_ascii_lowercase();
    let (protocol, kind) = match scheme.split_once('-') {
        None => (scheme.as_str(), Kind::Server),
        Some((protocol, "sentinel")) => (protocol, Kind::Sentinel),
        Some((protocol, "cluster")) => (protocol, Kind::Cluster),
        Some(_) => ("", Kind::Server),
    };
    match protocol {
        "redis" | "valkey" => Ok((kind, false)),
        "rediss" | "valkeys" => Ok((kind, true)),
        _ => Err("has a scheme that is not known; known are redis, rediss, valkey, valkeys, \
                  and each with -sentinel or -cluster"
            .to_owned()),
    }
}

fn host_of_object(entry: &serde_json::Map<String, Value>) -> Result<(String, Option<u16>), Wrong> {
    let mut host = None;
    let mut port = None;
    for (name, value) in entry {
        match name.as_str() {
            "host" => {
                let text = value.as_str().ok_or("has a host that is not a string")?;
                // Here there are no brackets to tell an IPv6 address from a port.
                let is_v6 = text.parse::<Ipv6Addr>().is_ok();
                host = Some(if is_v6 { text.to_owned() } else { host_name(text)? });
            }
            "port" => {
                let number = value.as_u64().map(|number| number.to_string());
                let text = number.as_deref().or(value.as_str()).unwrap_or_default();
                port = Some(port_number(text)?);
            }
            _ => return Err("has a host with something else than host and port".to_owned()),
        }
    }
    Ok((host.ok_or("has an entry without host")?, port))
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), Wrong> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("has a [ without ]")?;
        address.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address between [ and ]")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port_number(port)?),
            None if rest.is_empty() => None,
            None => return Err("has something between ] and the port".to_owned()),
        };
        return Ok((address.to_owned(), port));
    }
    match text.split_once(':') {
        None => Ok((host_name(text)?, None)),
        Some((_, port)) if port.contains(':') => {
            Err("has a host with several colons; write IPv6 addresses as [::1]".to_owned())
        }
        Some((host, port)) => Ok((host_name(host)?, Some(port_number(port)?))),
    }
}

fn host_name(text: &str) -> Result<String, Wrong> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if text.is_empty() {
        return Err("has an empty host".to_owned());
    }
    if !text.bytes().all(allowed) {
        return Err("has a host with characters that no host name has; \
                    percent-escape special characters of a password"
            .to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

fn port_number(text: &str) -> Result<u16, Wrong> {
    digits(text)
        .filter(|port| *port != 0)
        .ok_or_else(|| "has a port that is not a number from 1 to 65535".to_owned())
}

fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Undoes percent-escapes.
fn unescaped(text: &str) -> Result<String, Wrong> {
    const WRONG: &str = "has a % that begins no escape; write % itself as %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2).ok_or(WRONG)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(WRONG.to_owned());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = more;
    }
    String::from_utf8(bytes).map_err(|_| "has escapes that are not UTF-8".to_owned())
}

/// Several parts of one list may each say the same thing, but not different ones.
fn once<T: PartialEq>(place: &mut Option<T>, value: T, what: &str) -> Result<(), Wrong> {
    match place {
        Some(known) if *known != value => {
            Err(format!("says two different things about the {what}"))
        }
        Some(_) => Ok(()),
        None => {
            *place = Some(value);
            Ok(())
        }
    }
}
