//! What a session that would become too large is made of: names and numbers of bytes, never values.
//!
//! The owner of a session refuses what is too large, and says no more than that. Whoever asked looks at the session to tell
//! what is in the way; so the sizes are those of that look, by the limits of the node that asked, and may differ a little from
//! what the owner saw.

use std::fmt;

use serde::Serialize;

use crate::record::Record;
use crate::state::{Limits, size};

/// How many attributes are named.
const NAMED: usize = 5;

/// Why something would make a session too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Which limit is in the way.
    pub limit: SizeLimit,
    /// How much it allows.
    pub limit_bytes: usize,
    /// How long the attribute's JSON text would be; `None` when that is not known.
    pub attribute_bytes: Option<usize>,
    /// How long all names and JSON texts are, without the change.
    pub session_bytes: usize,
    /// The largest attributes, the one that was to be changed among them, as it would be.
    pub largest: Vec<AttributeSize>,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeLimit {
    /// `UNDERSTUDY_SESSION_MAX_ATTRIBUTE_BYTES`.
    Attribute,
    /// `UNDERSTUDY_SESSION_MAX_BYTES`.
    Session,
}

/// How large an attribute is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttributeSize {
    /// Its name.
    pub name: String,
    /// Bytes of its JSON text.
    pub bytes: usize,
}

/// How long the JSON text of an attribute was to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// To so many bytes.
    To(usize),
    /// By an item of so many bytes.
    By(usize),
    /// Nobody can tell.
    Unknown,
}

impl Sizes {
    /// Looks at a session, if there is one, of which attribute `name` was to grow.
    pub(crate) fn of(record: Option<&Record>, name: &str, growth: Growth, limits: &Limits) -> Self {
        let present = record.and_then(|record| record.attributes.get(name)).map(|text| text.len());
        let attribute_bytes = match growth {
            Growth::To(bytes) => Some(bytes),
            // A comma, or the brackets of a new list.
            Growth::By(bytes) => Some(bytes + present.map_or(2, |present| present + 1)),
            Growth::Unknown => None,
        };
        let is_attribute = attribute_bytes.is_some_and(|bytes| bytes > limits.attribute_bytes);
        let (limit, limit_bytes) = if is_attribute {
            (SizeLimit::Attribute, limits.attribute_bytes)
        } else {
            (SizeLimit::Session, limits.session_bytes)
        };
        Self {
            limit,
            limit_bytes,
            attribute_bytes,
            session_bytes: record.map_or(0, size),
            largest: largest(record, name, attribute_bytes.or(present)),
        }
    }
}

fn largest(record: Option<&Record>, name: &str, bytes: Option<usize>) -> Vec<AttributeSize> {
    let others = record.into_iter().flat_map(|record| record.attributes.iter());
    let others = others.filter(|(other, _)| ***other != *name);
    let mut all: Vec<AttributeSize> = others
        .map(|(name, text)| AttributeSize { name: name.to_string(), bytes: text.len() })
        .collect();
    all.extend(bytes.map(|bytes| AttributeSize { name: name.to_owned(), bytes }));
    all.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
    all.truncate(NAMED);
    all
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, variable) = match self.limit {
            SizeLimit::Attribute => ("an attribute", "UNDERSTUDY_SESSION_MAX_ATTRIBUTE_BYTES"),
            SizeLimit::Session => ("a session", "UNDERSTUDY_SESSION_MAX_BYTES"),
        };
        if let Some(bytes) = self.attribute_bytes {
            write!(f, "it would have {bytes} bytes, ")?;
        }
        write!(f, "the session has {} so far, ", self.session_bytes)?;
        write!(f, "{what} may have {} ({variable}); largest:", self.limit_bytes)?;
        for (number, attribute) in self.largest.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma} {:?} {}", attribute.name, attribute.bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::record::{RecentOps, Seal, SecretHash};

    const LIMITS: Limits = Limits { attribute_bytes: 50, session_bytes: 100, pack_above: 0 };

    fn record(attributes: &[(&str, usize)]) -> Record {
        let attributes = attributes.iter().map(|(name, bytes)| {
            let (name, text): (Arc<str>, Arc<str>) = ((*name).into(), "1".repeat(*bytes).into());
            (name, text)
        });
        Record {
            owner: None,
            epoch: 1,
            version: 1,
            last_op: None,
            created_ms: 0,
            absolute_ms: 0,
            last_access_ms: 0,
            idle_ms: 0,
            user: None,
            secret: SecretHash([0; 32]),
            previous_secret: None,
            attributes: Arc::new(attributes.collect()),
            recent: RecentOps::default(),
            unknown: BTreeMap::new(),
            seal: Seal::Open,
        }
    }

    fn names(sizes: &Sizes) -> Vec<(&str, usize)> {
        sizes.largest.iter().map(|it| (it.name.as_str(), it.bytes)).collect()
    }

    #[test]
    fn the_limit_that_is_in_the_way_is_named_with_the_largest_attributes() {
        let record = record(&[("a", 10), ("b", 30), ("c", 20), ("d", 1), ("e", 2), ("f", 3)]);
        let sizes = Sizes::of(Some(&record), "a", Growth::To(60), &LIMITS);
        assert_eq!((sizes.limit, sizes.limit_bytes), (SizeLimit::Attribute, 50));
        assert_eq!(names(&sizes), [("a", 60), ("b", 30), ("c", 20), ("f", 3), ("e", 2)]);
        let sizes = Sizes::of(Some(&record), "new", Growth::To(40), &LIMITS);
        assert_eq!((sizes.limit, sizes.limit_bytes), (SizeLimit::Session, 100));
        assert_eq!(sizes.session_bytes, 72);
        assert_eq!(names(&sizes)[..2], [("new", 40), ("b", 30)]);
        assert_eq!(
            sizes.to_string(),
            "it would have 40 bytes, the session has 72 so far, a session may have 100 \
             (UNDERSTUDY_SESSION_MAX_BYTES); largest: \"new\" 40, \"b\" 30, \"c\" 20, \"a\" 10, \"f\" 3"
        );
    }

    #[test]
    fn what_is_appended_counts_with_what_is_there() {
        let record = record(&[("list", 40)]);
        let bytes =
            |name: &str| Sizes::of(Some(&record), name, Growth::By(9), &LIMITS).attribute_bytes;
        assert_eq!(bytes("list"), Some(50), "[..] , and the item");
        assert_eq!(bytes("new"), Some(11), "[item]");
        let unknown = Sizes::of(Some(&record), "list", Growth::Unknown, &LIMITS);
        assert_eq!((unknown.attribute_bytes, names(&unknown)), (None, vec![("list", 40)]));
        let none = Sizes::of(None, "x", Growth::To(51), &LIMITS);
        assert_eq!((none.session_bytes, names(&none)), (0, vec![("x", 51)]));
    }
}
