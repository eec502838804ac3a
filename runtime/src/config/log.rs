//! Log lines: `LOG_*`.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::reader::{Reader, one_of, word};

/// Log lines.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `LOG_FILTER`: directives of `tracing_subscriber::EnvFilter`, known to parse.
    pub filter: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
    /// `LOG_SESSION_HASH`: whether lines name the session, by a hash.
    pub session_hash: bool,
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    filter: Option<String>,
    format: Option<String>,
    session_hash: Option<String>,
}

impl LogConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("LOG_");
        let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
        Self {
            filter: read.parsed(
                "UNDERSTUDY_LOG_FILTER",
                raw.filter.as_deref(),
                "a level or directives, such as info or warn,understudy_session=debug",
                |text| EnvFilter::try_new(text).ok().map(|_| text.to_owned()),
            ),
            format: read
                .optional(
                    "UNDERSTUDY_LOG_FORMAT",
                    raw.format.as_deref(),
                    &one_of(&formats),
                    |text| word(text, &formats),
                )
                .unwrap_or(LogFormat::Auto),
            session_hash: read.flag("UNDERSTUDY_LOG_SESSION_HASH", raw.session_hash.as_deref()),
        }
    }
}
