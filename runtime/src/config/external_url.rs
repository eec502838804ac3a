//! The address by which browsers reach the application.

use std::fmt;

use actix_web::http::Uri;

/// How browsers reach the application: `https://shop.example` or `http://10.0.0.5:8080/app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalUrl {
    /// Plain or encrypted.
    pub scheme: Scheme,
    /// Host in lower case, and the port unless it is the scheme's own; as browsers write it in `Host` and `Origin`.
    pub authority: String,
    /// Empty, or begins with a slash and does not end with one.
    pub path: String,
}

/// The scheme of an [`ExternalUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl ExternalUrl {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.contains(['#', '?', '@']) {
            return None; // Uri drops a fragment without a word
        }
        let uri: Uri = text.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16();
        if host.is_empty() || (port.is_none() && authority.as_str().len() != host.len()) {
            return None; // a port that is none
        }
        let authority = match port {
            Some(port) if port != scheme.port() => format!("{host}:{port}"),
            Some(_) | None => host,
        };
        Some(Self { scheme, authority, path: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Returns whether browsers come over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Returns what browsers send as `Origin`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_url_is_taken_apart_as_browsers_do() {
        for (text, origin, path) in [
            ("https://shop.example", "https://shop.example", ""),
            ("https://Shop.Example:443/", "https://shop.example", ""),
            ("http://10.0.0.5:8080/app/", "http://10.0.0.5:8080", "/app"),
            ("http://[::1]:80", "http://[::1]", ""),
            ("HTTPS://a:8443", "https://a:8443", ""),
        ] {
            let url = ExternalUrl::parse(text).expect(text);
            assert_eq!((url.origin().as_str(), url.path.as_str()), (origin, path), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_an_application_is_refused() {
        for text in [
            "shop.example",
            "ftp://shop.example",
            "https://",
            "https://u:p@shop.example",
            "https://shop.example?x",
            "https://shop.example/#x",
            "https://shop.example:99999",
            "https://shop.example:",
            "/app",
            "https:// x",
        ] {
            assert_eq!(ExternalUrl::parse(text), None, "{text}");
        }
    }
}
