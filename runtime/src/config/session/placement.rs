//! At which node a session is, and how balancers are told: `SESSION_MOVES_PER_MINUTE`, `SESSION_AFFINITY_COOKIE`.

use std::time::Duration;

use super::Raw;
use super::cookie::{Cookie, is_token};
use crate::config::reader::Reader;

const COOKIE: &str = "UNDERSTUDY_SESSION_AFFINITY_COOKIE";

/// At which node a session is, and how balancers are told.
#[derive(Debug, Clone)]
pub struct PlacementConfig {
    /// `SESSION_MOVES_PER_MINUTE` as the time between two moves of one session; `None`: sessions stay where they are.
    pub move_every: Option<Duration>,
    /// `SESSION_AFFINITY_COOKIE`: name of a cookie that names the node which owns the session, for balancers.
    pub affinity_cookie: Option<String>,
}

pub(super) fn read(read: &mut Reader, raw: &Raw, cookie: &Cookie) -> PlacementConfig {
    const MOVES: &str = "UNDERSTUDY_SESSION_MOVES_PER_MINUTE";
    let moves: u32 = read.number(MOVES, raw.moves_per_minute.as_deref(), 0..=600);
    let expected = "letters, digits and - _ . and other characters of a token";
    let affinity_cookie = read.optional(COOKIE, raw.affinity_cookie.as_deref(), expected, |text| {
        text.bytes().all(is_token).then(|| text.to_owned())
    });
    if affinity_cookie.as_ref() == Some(&cookie.name) {
        read.problem(COOKIE, "must not be UNDERSTUDY_SESSION_COOKIE_NAME");
    }
    let prefixed = |name: &String| name.to_ascii_lowercase().starts_with("__");
    if affinity_cookie.as_ref().is_some_and(prefixed) {
        read.problem(
            COOKIE,
            "must not begin with __: such a name asks browsers for more than this cookie needs",
        );
    }
    PlacementConfig {
        move_every: (moves > 0).then(|| Duration::from_secs(60) / moves),
        affinity_cookie,
    }
}
