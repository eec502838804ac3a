//! The settings that this program knows.

use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::admin::Role;
use crate::config::Config;
use crate::http::maintenance::Notice;

/// The longest log filter, bytes.
const LONGEST_FILTER: usize = 2_000;
/// How long the log may be followed before somebody has to say so again.
const LONGEST_TAIL: Duration = Duration::from_secs(24 * 3_600);

/// One setting: what it means, who may change it, what it may be.
#[derive(Debug)]
pub struct KnownSetting {
    /// Its name, for ever: the database remembers it.
    pub name: &'static str,
    /// What it means, in one sentence without a full stop.
    pub meaning: &'static str,
    /// Who may change it.
    pub role: Role,
    /// Through which resource of the admin port it is changed, when it has one of its own.
    pub resource: Option<&'static str>,
    pub(super) default: fn(&Config) -> String,
    pub(super) check: fn(&str) -> Result<(), String>,
    /// Whether, of two values, that of the cluster decides, and not that of the node.
    pub(super) outdoes: fn(&str, &str) -> bool,
    /// How long a value may last, where it must have an end.
    longest: fn(&str) -> Option<Duration>,
}

/// Which log lines are written.
pub const LOG_FILTER: KnownSetting = KnownSetting {
    name: "log_filter",
    meaning: "Which log lines are written: a level, and levels of single modules, such as \
              info,understudy_session=debug",
    role: Role::Admin,
    resource: None,
    default: |config| config.log.filter.clone(),
    check: check_filter,
    outdoes: |_cluster, _node| false,
    longest: |_value| None,
};

/// Whether log lines are kept and can be followed from elsewhere.
pub const LOG_TAIL: KnownSetting = KnownSetting {
    name: "log_tail",
    meaning: "Whether admins can follow the log lines of nodes from elsewhere: on or off",
    role: Role::Admin,
    resource: None,
    default: |_config| "off".to_owned(),
    check: |text| match text {
        "on" | "off" => Ok(()),
        _ => Err("must be `on` or `off`".to_owned()),
    },
    outdoes: |_cluster, _node| false,
    longest: |value| (value == "on").then_some(LONGEST_TAIL),
};

/// Whether the public port serves everybody, readers only, or nobody.
pub const MAINTENANCE: KnownSetting = KnownSetting {
    name: "maintenance",
    meaning: "Whether the public port serves everybody, readers only, or nobody",
    role: Role::Operator,
    resource: Some("/v1/maintenance"),
    default: |config| Notice::off(config).to_text(),
    check: |text| Notice::parse(text).map(drop),
    outdoes: |cluster, node| {
        let mode = |text| Notice::parse(text).map(|notice| notice.mode).unwrap_or_default();
        mode(cluster) > mode(node)
    },
    longest: |_value| None,
};

/// All of them.
pub const KNOWN: &[KnownSetting] = &[LOG_FILTER, LOG_TAIL, MAINTENANCE];

impl KnownSetting {
    /// Finds a setting.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// Says what is wrong with a value, and what would be right.
    ///
    /// # Errors
    /// A text for an operator.
    pub fn check(&self, value: &str) -> Result<(), String> {
        (self.check)(value)
    }

    /// Returns how long a value may last; `None` when it needs no end. Then it must be said how long it lasts.
    #[must_use]
    pub fn longest(&self, value: &str) -> Option<Duration> {
        (self.longest)(value)
    }

    /// Its place in [`KNOWN`].
    pub(super) fn number(&self) -> usize {
        let place = KNOWN.iter().position(|known| known.name == self.name);
        place.expect("all settings are in the list: the constructor is not public")
    }
}

/// The library takes any word for the name of a module, of which it then shows everything, and nothing of all others: a
/// level that is misspelt would make a node silent.
fn check_filter(text: &str) -> Result<(), String> {
    const RIGHT: &str = "a level (error, warn, info, debug, trace, off) and levels of modules, such as \
                         info,understudy_session=debug";
    if text.trim().is_empty() || text.len() > LONGEST_FILTER || text.chars().any(char::is_control) {
        return Err(format!(
            "must be 1 to {LONGEST_FILTER} bytes without control characters: {RIGHT}"
        ));
    }
    for part in text.split(',').map(str::trim) {
        // Nothing at all would count as `error`.
        let is_level = !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        if !part.contains('=') && !is_level {
            let told: String = part.chars().take(64).collect();
            return Err(format!("`{told}` is no level; it must be {RIGHT}"));
        }
    }
    EnvFilter::try_new(text).map(drop).map_err(|error| format!("{error}; it must be {RIGHT}"))
}
