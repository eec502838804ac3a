//! Every Redis key and channel of the product, spelled in this one place.
//!
//! All begin with `us:<cluster>:`, so that two clusters share a Redis without meeting and an access rule
//! `~us:* &us:*` is enough. The part in braces decides the slot on a Redis Cluster: all keys of one bucket lie
//! in one slot, because a script may touch only one.

use std::sync::Arc;

use crate::ids::{Bucket, ClusterName, NodeId};

/// Spells the keys of one cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeySpace {
    prefix: Arc<str>,
    buckets: u16,
}

impl KeySpace {
    /// Makes the key space of a cluster that is spread over `buckets` slots: 1 unless Redis is a Cluster. Zero counts as 1.
    #[must_use]
    pub fn new(cluster: &ClusterName, buckets: u16) -> Self {
        Self { prefix: Arc::from(format!("us:{cluster}:")), buckets: buckets.max(1) }
    }

    /// Returns how many buckets there are.
    #[must_use]
    pub fn buckets(&self) -> u16 {
        self.buckets
    }

    /// Returns each bucket once.
    pub fn all_buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        (0..self.buckets).map(Bucket)
    }

    /// Returns what all keys and channels begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the bucket of a session, the same on every node and in every version.
    #[must_use]
    pub fn bucket_of(&self, locator: &[u8; 16]) -> Bucket {
        Bucket(crc16(locator) % self.buckets)
    }

    /// Returns the hash that holds the node leases of a bucket.
    #[must_use]
    pub fn lease_table(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:L", self.prefix)
    }

    /// Returns the hash that holds one session; the locator is the text from the cookie.
    #[must_use]
    pub fn session(&self, bucket: Bucket, locator_b64: &str) -> String {
        format!("{}{{{bucket}}}:s:{locator_b64}", self.prefix)
    }

    /// Returns the sorted set of a bucket's sessions by the time they run out.
    #[must_use]
    pub fn session_expiry(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:x", self.prefix)
    }

    /// Returns the sorted set of a bucket's sessions in which somebody is logged in, to count them.
    #[must_use]
    pub fn session_named(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:n", self.prefix)
    }

    /// Returns the hash of what a session held when it ended, until somebody was told of its end.
    #[must_use]
    pub fn session_remains(&self, bucket: Bucket, locator_b64: &str) -> String {
        format!("{}{{{bucket}}}:z:{locator_b64}", self.prefix)
    }

    /// Returns the stream of a session's events, for the connections that it holds.
    #[must_use]
    pub fn session_events(&self, bucket: Bucket, locator_b64: &str) -> String {
        format!("{}{{{bucket}}}:t:{locator_b64}", self.prefix)
    }

    /// Returns the stream of a user's events; `digest` stands for the name, as in [`Self::user_sessions`].
    #[must_use]
    pub fn user_events(&self, digest: &str) -> String {
        format!("{}{{u{digest}}}:t", self.prefix)
    }

    /// Returns the sorted set of a bucket's sessions by the id that operators see, to find one and to page by.
    #[must_use]
    pub fn session_ids(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:i", self.prefix)
    }

    /// Returns the sorted set of what the database does not have yet of a bucket's sessions, by since when.
    #[must_use]
    pub fn unsaved_sessions(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:p", self.prefix)
    }

    /// Returns the string that names who is bringing them there.
    #[must_use]
    pub fn session_saver(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:pl", self.prefix)
    }

    /// Returns the sorted set of a user's sessions, spread over the slots by user; `digest` stands for the name, which may
    /// hold anything.
    #[must_use]
    pub fn user_sessions(&self, digest: &str) -> String {
        format!("{}{{u{digest}}}:u", self.prefix)
    }

    /// Returns the sorted set of users who were seen lately, by when; a user is in the bucket of the hash of the name.
    #[must_use]
    pub fn seen_users(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:w", self.prefix)
    }

    /// Returns the sorted set of a bucket's sessions without a user that were used lately, by when.
    #[must_use]
    pub fn seen_guests(&self, bucket: Bucket) -> String {
        format!("{}{{{bucket}}}:g", self.prefix)
    }

    /// Returns the counter of failures to log in; `digest` stands for who, and from where.
    #[must_use]
    pub fn lockout(&self, digest: &str) -> String {
        format!("{}{{k{digest}}}:k", self.prefix)
    }

    /// Returns when somebody may do something as often as it may be done; `digest` stands for who and what.
    #[must_use]
    pub fn rate_limit(&self, digest: &str) -> String {
        format!("{}{{r{digest}}}:r", self.prefix)
    }

    /// Returns a key of a region of the cache; all of them lie in one slot.
    #[must_use]
    pub fn cache(&self, region: &str, part: CachePart<'_>) -> String {
        let prefix = format!("{}{{c{region}}}", self.prefix);
        match part {
            CachePart::Head => format!("{prefix}:h"),
            CachePart::Log => format!("{prefix}:l"),
            CachePart::Value(key) => format!("{prefix}:v:{key}"),
            CachePart::Lease(key) => format!("{prefix}:f:{key}"),
            CachePart::Writers(key) => format!("{prefix}:b:{key}"),
            CachePart::Tag(tag) => format!("{prefix}:t:{tag}"),
        }
    }

    /// Returns the hash of all nodes, by name.
    #[must_use]
    pub fn members(&self) -> String {
        format!("{}{{m}}:nodes", self.prefix)
    }

    /// Returns the key with which a node tries out whether it can write.
    #[must_use]
    pub fn probe(&self, node: &NodeId) -> String {
        format!("{}{{m}}:probe:{}", self.prefix, node.name().as_str())
    }

    /// Returns the string that names the leader, while there is one.
    #[must_use]
    pub fn leader(&self) -> String {
        format!("{}{{leader}}:lease", self.prefix)
    }

    /// Returns the channel on which one process of the cluster hears. Spread over the slots by the node's id.
    #[must_use]
    pub fn node_channel(&self, node: &NodeId) -> String {
        let id = node.to_string();
        format!("{}{{n{:04x}}}:bus:{id}", self.prefix, crc16(id.as_bytes()))
    }

    /// Returns the channel on which every process of the cluster hears.
    #[must_use]
    pub fn broadcast_channel(&self) -> String {
        format!("{}{{m}}:bus", self.prefix)
    }
}

/// What is kept of a region of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePart<'a> {
    /// The hash of which life it is in, and how often values of it were forgotten.
    Head,
    /// The stream of what was forgotten.
    Log,
    /// The hash of a value.
    Value(&'a str),
    /// The string that says who may load a value.
    Lease(&'a str),
    /// The hash of those who are changing what a value is loaded from.
    Writers(&'a str),
    /// The string that is the version of a tag, for a while after it was forgotten.
    Tag(&'a str),
}

/// CRC-16/XMODEM, the sum by which Redis Cluster chooses slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum: u16, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ids::Incarnation;

    fn keys(buckets: u16) -> KeySpace {
        KeySpace::new(&"shop".parse().unwrap(), buckets)
    }

    #[test]
    fn keys_are_spelled_as_scripts_and_operators_know_them() {
        let keys = keys(64);
        let node = NodeId::new("a".parse().unwrap(), Incarnation::from_u64(1));
        assert_eq!(keys.lease_table(Bucket(7)), "us:shop:{7}:L");
        assert_eq!(keys.session(Bucket(7), "abc"), "us:shop:{7}:s:abc");
        assert_eq!(keys.session_expiry(Bucket(7)), "us:shop:{7}:x");
        assert_eq!(keys.session_named(Bucket(7)), "us:shop:{7}:n");
        assert_eq!(keys.session_remains(Bucket(7), "abc"), "us:shop:{7}:z:abc");
        assert_eq!(keys.session_events(Bucket(7), "abc"), "us:shop:{7}:t:abc");
        assert_eq!(keys.user_events("abc"), "us:shop:{uabc}:t");
        assert_eq!(keys.session_ids(Bucket(7)), "us:shop:{7}:i");
        assert_eq!(keys.unsaved_sessions(Bucket(7)), "us:shop:{7}:p");
        assert_eq!(keys.session_saver(Bucket(7)), "us:shop:{7}:pl");
        assert_eq!(keys.user_sessions("abc"), "us:shop:{uabc}:u");
        assert_eq!(keys.seen_users(Bucket(7)), "us:shop:{7}:w");
        assert_eq!(keys.seen_guests(Bucket(7)), "us:shop:{7}:g");
        assert_eq!(keys.lockout("abc"), "us:shop:{kabc}:k");
        assert_eq!(keys.rate_limit("abc"), "us:shop:{rabc}:r");
        assert_eq!(keys.cache("p", CachePart::Head), "us:shop:{cp}:h");
        assert_eq!(keys.cache("p", CachePart::Log), "us:shop:{cp}:l");
        assert_eq!(keys.cache("p", CachePart::Value("a}b")), "us:shop:{cp}:v:a}b");
        assert_eq!(keys.cache("p", CachePart::Lease("a")), "us:shop:{cp}:f:a");
        assert_eq!(keys.cache("p", CachePart::Writers("a")), "us:shop:{cp}:b:a");
        assert_eq!(keys.cache("p", CachePart::Tag("a")), "us:shop:{cp}:t:a");
        assert_eq!(keys.members(), "us:shop:{m}:nodes");
        assert_eq!(keys.broadcast_channel(), "us:shop:{m}:bus");
        assert_eq!(keys.leader(), "us:shop:{leader}:lease");
        let channel = keys.node_channel(&node);
        assert!(channel.starts_with("us:shop:{n"), "{channel}");
        assert!(channel.ends_with("}:bus:a#0000000000000001"), "{channel}");
    }

    #[test]
    fn k8_every_key_and_channel_carries_the_prefix_of_its_cluster() {
        let keys = keys(1);
        let node = NodeId::begin("a".parse().unwrap());
        for key in [
            keys.lease_table(Bucket(0)),
            keys.session(Bucket(0), "l"),
            keys.session_expiry(Bucket(0)),
            keys.session_named(Bucket(0)),
            keys.session_remains(Bucket(0), "l"),
            keys.session_events(Bucket(0), "l"),
            keys.user_events("d"),
            keys.session_ids(Bucket(0)),
            keys.unsaved_sessions(Bucket(0)),
            keys.session_saver(Bucket(0)),
            keys.user_sessions("d"),
            keys.seen_users(Bucket(0)),
            keys.seen_guests(Bucket(0)),
            keys.lockout("d"),
            keys.rate_limit("d"),
            keys.cache("p", CachePart::Head),
            keys.cache("p", CachePart::Log),
            keys.cache("p", CachePart::Value("a")),
            keys.cache("p", CachePart::Lease("a")),
            keys.cache("p", CachePart::Writers("a")),
            keys.cache("p", CachePart::Tag("a")),
            keys.members(),
            keys.leader(),
            keys.probe(&node),
            keys.node_channel(&node),
            keys.broadcast_channel(),
        ] {
            assert!(key.starts_with(keys.prefix()), "{key}");
        }
    }

    #[test]
    fn the_sum_is_the_one_redis_uses() {
        assert_eq!(crc16(b"123456789"), 0x31c3); // the check value in the Redis Cluster specification
    }

    #[test]
    fn one_bucket_takes_all_and_64_are_all_used() {
        let locators =
            || (0u64..4096).map(|i| (u128::from(i) * 0x9e37_79b9_7f4a_7c15).to_be_bytes());
        assert!(locators().all(|locator| keys(1).bucket_of(&locator) == Bucket(0)));
        let used: HashSet<_> = locators().map(|locator| keys(64).bucket_of(&locator)).collect();
        assert_eq!(used.len(), 64);
        assert_eq!(keys(64).all_buckets().count(), 64);
        assert_eq!(keys(0).buckets(), 1);
    }
}
