//! Log lines: `LOG_*`.

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
