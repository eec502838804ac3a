//! Traces that leave the process: `TRACES_*`.

use std::fmt;

use actix_web::http::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::external_url::{ExternalUrl, Scheme};
use super::reader::{Reader, list};
use crate::secret::Secret;

/// Where the collector of OTLP over HTTP listens, unless the address says otherwise.
const PATH: &str = "/v1/traces";

/// Traces that leave the process.
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// `TRACES_ENDPOINT`: the whole address that spans are sent to; none when nothing is exported.
    pub endpoint: Option<String>,
    /// `TRACES_SAMPLE`: the share of requests that is traced when the caller has not decided, 0 to 1.
    pub sample: f64,
    /// `TRACES_HEADERS`: what is sent along, such as a key; none of them is malformed.
    pub headers: Vec<TracesHeader>,
}

/// A header for the collector.
#[derive(Debug, Clone)]
pub struct TracesHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Secret<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    endpoint: Option<String>,
    sample: Option<String>,
    headers: Option<String>,
}

impl TracesConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("TRACES_");
        let url = read.optional(
            "UNDERSTUDY_TRACES_ENDPOINT",
            raw.endpoint.as_deref(),
            "the address of a collector of OTLP over HTTP, such as http://collector:4318, without user and query",
            ExternalUrl::parse,
        );
        let sample = read.parsed(
            "UNDERSTUDY_TRACES_SAMPLE",
            raw.sample.as_deref(),
            "a number from 0 to 1, such as 0.05",
            share,
        );
        let headers = headers(read, raw.headers);
        if let Some(url) = url.as_ref().filter(|url| !headers.is_empty() && goes_unencrypted(url)) {
            read.warn(format!(
                "UNDERSTUDY_TRACES_HEADERS are sent to {} unencrypted",
                url.authority
            ));
        }
        Self { endpoint: url.as_ref().map(address), sample, headers }
    }
}

/// An address without a path is that of the collector, one with a path is taken as it is.
fn address(url: &ExternalUrl) -> String {
    let path = if url.path.is_empty() { PATH } else { &url.path };
    format!("{}{path}", url.origin())
}

fn share(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|share| plain && (0.0..=1.0).contains(share))
}

fn headers(read: &mut Reader, given: Option<String>) -> Vec<TracesHeader> {
    const NAME: &str = "UNDERSTUDY_TRACES_HEADERS";
    let parsed: Result<Vec<_>, Malformed> =
        list(given.as_deref().unwrap_or_default()).map(header).collect();
    read.secret(NAME, given);
    parsed.unwrap_or_else(|malformed| {
        read.problem(NAME, malformed.to_string());
        Vec::new()
    })
}

/// A header that could not be sent. Says nothing of its value.
#[derive(Debug)]
struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be name=value,name=value with names and values that HTTP allows")
    }
}

fn header(text: &str) -> Result<TracesHeader, Malformed> {
    let (name, value) = text.split_once('=').ok_or(Malformed)?;
    let (name, value) = (name.trim(), value.trim());
    let name: HeaderName = name.parse().map_err(|_| Malformed)?;
    let value = HeaderValue::from_str(value).map_err(|_| Malformed)?;
    let value = value.to_str().map_err(|_| Malformed)?;
    Ok(TracesHeader { name: name.to_string(), value: Secret::new(value.to_owned()) })
}

fn goes_unencrypted(url: &ExternalUrl) -> bool {
    let host = url.authority.rsplit_once(':').map_or(url.authority.as_str(), |(host, _)| host);
    let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    url.scheme == Scheme::Http && !is_here
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigErrors, TracesConfig};

    fn read(vars: &[(&str, &str)]) -> Result<(TracesConfig, Vec<String>), ConfigErrors> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_vars(vars).map(|config| (config.traces, config.warnings))
    }

    #[test]
    fn nothing_is_exported_unless_an_address_is_set() {
        let (traces, _) = read(&[]).unwrap();
        assert_eq!(traces.endpoint, None);
        assert!((traces.sample - 1.0).abs() < f64::EPSILON && traces.headers.is_empty());
    }

    #[test]
    fn an_address_without_a_path_is_completed() {
        for (given, whole) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://Collector.example/", "https://collector.example/v1/traces"),
            ("https://otlp.example/api/traces", "https://otlp.example/api/traces"),
        ] {
            let (traces, _) = read(&[("UNDERSTUDY_TRACES_ENDPOINT", given)]).unwrap();
            assert_eq!(traces.endpoint.as_deref(), Some(whole));
        }
    }

    #[test]
    fn mistakes_name_the_option_and_show_no_secret() {
        for (name, bad) in [
            ("UNDERSTUDY_TRACES_ENDPOINT", "collector:4318"),
            ("UNDERSTUDY_TRACES_ENDPOINT", "http://user:s3cret@collector:4318"),
            ("UNDERSTUDY_TRACES_SAMPLE", "1.5"),
            ("UNDERSTUDY_TRACES_SAMPLE", "NaN"),
            ("UNDERSTUDY_TRACES_SAMPLE", "-0"),
            ("UNDERSTUDY_TRACES_HEADERS", "s3cret"),
            ("UNDERSTUDY_TRACES_HEADERS", "a b=s3cret"),
        ] {
            let errors = read(&[(name, bad)]).unwrap_err();
            let told = errors.to_string();
            assert!(told.starts_with(&format!("{name}: must be ")), "{told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn headers_are_taken_apart_and_never_shown() {
        let vars = [
            ("UNDERSTUDY_TRACES_ENDPOINT", "http://collector:4318"),
            ("UNDERSTUDY_TRACES_HEADERS", "Authorization=Basic s3cret==, x-team = shop"),
        ];
        let (traces, warnings) = read(&vars).unwrap();
        let headers: Vec<_> = traces
            .headers
            .iter()
            .map(|header| (header.name.as_str(), header.value.expose().as_str()))
            .collect();
        assert_eq!(headers, [("authorization", "Basic s3cret=="), ("x-team", "shop")]);
        assert!(!format!("{traces:?} {warnings:?}").contains("s3cret"));
        assert!(warnings.iter().any(|warning| warning.contains("unencrypted")), "{warnings:?}");
        let here = [vars[1], ("UNDERSTUDY_TRACES_ENDPOINT", "http://127.0.0.1:4318")];
        let (_, warnings) = read(&here).unwrap();
        assert!(!warnings.iter().any(|warning| warning.contains("unencrypted")), "{warnings:?}");
    }
}
