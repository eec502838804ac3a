//! Metrics: `METRICS_*`.

use serde::Deserialize;

use super::reader::Reader;

/// Metrics.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// `METRICS_ENABLED`: whether the administration port serves them.
    pub enabled: bool,
    /// `METRICS_PUBLIC`: whether the public port serves them too.
    pub public: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    enabled: Option<String>,
    public: Option<String>,
}

impl MetricsConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("METRICS_");
        Self {
            enabled: read.flag("UNDERSTUDY_METRICS_ENABLED", raw.enabled.as_deref()),
            public: read.flag("UNDERSTUDY_METRICS_PUBLIC", raw.public.as_deref()),
        }
    }
}
