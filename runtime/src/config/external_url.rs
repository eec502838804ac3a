//! The address by which browsers reach the application.

use std::fmt;

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
