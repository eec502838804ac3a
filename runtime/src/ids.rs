//! The names that tell nodes, clusters, buckets and requests apart.
//!
//! Each is checked once, when it is made, so that it can go into a Redis key, a header or a log line as it is.
//! Session identifiers are not here: this crate knows no session.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name or identifier does not have the required form. Never repeats what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}")]
pub struct InvalidId {
    what: &'static str,
    form: &'static str,
}

/// The name an operator gives to a node: 1 to 64 of `A-Z a-z 0-9 . _ -`. Unique among the live nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Makes a valid name out of any text, such as a host name, by replacing what is not allowed.
    #[must_use]
    pub fn from_lossy(text: &str) -> Self {
        let replaced: String =
            text.chars().take(64).map(|c| if is_name_char(c) { c } else { '-' }).collect();
        if replaced.is_empty() { Self(Arc::from("node")) } else { Self(Arc::from(replaced)) }
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if !text.is_empty() && text.len() <= 64 && text.chars().all(is_name_char) {
            return Ok(Self(Arc::from(text)));
        }
        Err(InvalidId { what: "a node name", form: "1 to 64 of A-Z a-z 0-9 . _ -" })
    }
}

/// One life of a node: drawn at random each time a process starts, so that a restarted node is another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(u64);

impl Incarnation {
    /// Draws a new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Makes a known one, for tests and simulations.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { what: "an incarnation", form: "16 of 0-9 a-f" };
        // from_str_radix alone would take a sign and capitals: two spellings of one node.
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| invalid)
    }
}

/// One process of the cluster: its name and which life of that name it is. Written `name#incarnation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId {
    name: NodeName,
    incarnation: Incarnation,
}

impl NodeId {
    /// Names a particular life of a node.
    #[must_use]
    pub fn new(name: NodeName, incarnation: Incarnation) -> Self {
        Self { name, incarnation }
    }

    /// Begins a new life of the node with this name.
    #[must_use]
    pub fn begin(name: NodeName) -> Self {
        Self::new(name, Incarnation::random())
    }

    /// Returns the operator's name of the node.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Returns which life of the name this is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.incarnation)
    }
}

impl FromStr for NodeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (name, incarnation) = text
            .split_once('#')
            .ok_or(InvalidId { what: "a node id", form: "written name#incarnation" })?;
        Ok(Self::new(name.parse()?, incarnation.parse()?))
    }
}

/// The name of a cluster, which keeps several apart on one Redis: 1 to 32 of `a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self(Arc::from("understudy"))
    }
}

impl FromStr for ClusterName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if !text.is_empty() && text.len() <= 32 && text.bytes().all(allowed) {
            return Ok(Self(Arc::from(text)));
        }
        Err(InvalidId { what: "a cluster name", form: "1 to 32 of a-z 0-9 _ -" })
    }
}

/// A part of the key space that lies in one slot of a Redis Cluster, and has one lease table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(pub u16);

impl Bucket {
    /// Returns the bucket as an index into a table with one place per bucket.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one request in logs, answers and messages to other nodes: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Draws a new one: 32 hexadecimal digits.
    #[must_use]
    pub fn random() -> Self {
        Self(Arc::from(format!("{:032x}", rand::random::<u128>())))
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if !text.is_empty() && text.len() <= 64 && text.chars().all(is_name_char) {
            return Ok(Self(Arc::from(text)));
        }
        Err(InvalidId { what: "a request id", form: "1 to 64 of A-Z a-z 0-9 . _ -" })
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Text in, text out: what serde and `Display` need of each identifier.
macro_rules! as_text {
    ($($id:ident),+) => {$(
        impl TryFrom<String> for $id {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }
    )+};
}
as_text!(NodeName, Incarnation, NodeId, ClusterName, RequestId);

macro_rules! display_inner {
    ($($id:ident),+) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}
display_inner!(NodeName, ClusterName, RequestId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_survives_text_and_json() {
        let id = NodeId::begin("web-1.example".parse().unwrap());
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
    }

    #[test]
    fn two_lives_of_a_name_are_two_nodes() {
        let name: NodeName = "a".parse().unwrap();
        assert_ne!(NodeId::begin(name.clone()), NodeId::begin(name));
    }

    #[test]
    fn names_that_would_break_a_key_or_a_log_line_are_refused() {
        for bad in ["", "a#b", "a b", "a:b", "a{b}", "a\nb", &"x".repeat(65), "ä"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
        for bad in ["", "Upper", "a.b", "a:b", &"x".repeat(33)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_incarnation_has_one_spelling() {
        let incarnation = Incarnation::from_u64(0xab);
        assert_eq!(incarnation.to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(incarnation));
        for bad in ["ab", "00000000000000AB", "+0000000000000ab", "", "00000000000000abc"] {
            assert!(bad.parse::<Incarnation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn any_host_name_becomes_a_node_name() {
        assert_eq!(NodeName::from_lossy("web 1/ä").as_str(), "web-1--");
        assert_eq!(NodeName::from_lossy("").as_str(), "node");
        assert_eq!(NodeName::from_lossy(&"x".repeat(99)).as_str().len(), 64);
    }

    #[test]
    fn an_error_does_not_repeat_what_was_given() {
        let error = "s3cret value".parse::<NodeName>().unwrap_err().to_string();
        assert_eq!(error, "a node name must be 1 to 64 of A-Z a-z 0-9 . _ -");
    }
}
