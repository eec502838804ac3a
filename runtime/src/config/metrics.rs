//! Metrics: `METRICS_*`.

/// Metrics.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// `METRICS_ENABLED`: whether they are recorded and served on the administration port.
    pub enabled: bool,
    /// `METRICS_PUBLIC`: whether the public port serves them too.
    pub public: bool,
}
