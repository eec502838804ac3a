//! What users of sessions may: `SESSION_MAX_*` and `SESSION_LOCKOUT_*`.

use std::time::Duration;

use super::{Raw, Reader};

/// What users may.
#[derive(Debug, Clone)]
pub struct UserConfig {
    /// `SESSION_MAX_PER_USER`: most sessions of one user; `None`: any number.
    pub max_sessions: Option<u32>,
    /// `SESSION_MAX_POLICY`: what happens to a login beyond that.
    pub max_policy: MaxPolicy,
    /// `SESSION_LOCKOUT_ATTEMPTS`: how often a login may fail from one address; `None`: any number.
    pub lockout_attempts: Option<u32>,
    /// `SESSION_LOCKOUT_S`: for how long failures are counted, and a user is locked out.
    pub lockout: Duration,
}

/// What happens to a login of a user who has as many sessions as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxPolicy {
    /// It is refused.
    Reject,
    /// It succeeds, and the session that logged in longest ago ends.
    Oldest,
    /// It succeeds, no session ends, and the application is told.
    Notify,
}

pub(super) fn read(read: &mut Reader, raw: &Raw) -> UserConfig {
    let max_per_user = raw.max_per_user.as_deref();
    let lockout_attempts = raw.lockout_attempts.as_deref();
    UserConfig {
        max_sessions: up_to(read, "UNDERSTUDY_SESSION_MAX_PER_USER", max_per_user, 10_000),
        max_policy: read.choice(
            "UNDERSTUDY_SESSION_MAX_POLICY",
            raw.max_policy.as_deref(),
            &[
                ("oldest", MaxPolicy::Oldest),
                ("reject", MaxPolicy::Reject),
                ("notify", MaxPolicy::Notify),
            ],
        ),
        lockout_attempts: up_to(
            read,
            "UNDERSTUDY_SESSION_LOCKOUT_ATTEMPTS",
            lockout_attempts,
            1_000,
        ),
        lockout: read.seconds(
            "UNDERSTUDY_SESSION_LOCKOUT_S",
            raw.lockout_s.as_deref(),
            1..=604_800,
        ),
    }
}

/// Reads a limit that 0 switches off.
fn up_to(read: &mut Reader, name: &'static str, given: Option<&str>, most: u64) -> Option<u32> {
    let limit: u32 = read.number(name, given, 0..=most);
    (limit > 0).then_some(limit)
}
