//! What an operator may choose about sessions, as the session crate needs it.

use std::time::Duration;

use understudy_runtime::config::{Config, SameSite, SessionConfig, UserConfig};

use crate::engine::STORE_PATIENCE;
use crate::state::Limits;

/// How long a command to Redis may take by default (`REDIS_COMMAND_TIMEOUT_MS`).
const USUAL_COMMAND: Duration = Duration::from_millis(500);

/// Times, bounds and the shape of the cookie.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How long a session lives without a request.
    pub idle: Duration,
    /// How long a session lives at most.
    pub absolute: Duration,
    /// How long a session may live without a request when its login asks for longer.
    pub long_idle: Duration,
    /// How long a session may live at most when its login asks for longer.
    pub long_absolute: Duration,
    /// How often at most an access is written down.
    pub touch: Duration,
    /// Bounds on what one session holds.
    pub limits: Limits,
    /// After which time without a request a session leaves memory.
    pub passivate_after: Duration,
    /// How many sessions may be in memory.
    pub actors_max: usize,
    /// How long a request waits for an owner that is silent.
    pub wait: Duration,
    /// How long a request waits for a store that is away before it is told so.
    pub store_patience: Duration,
    /// How much time is between two moves of one session to another node; `None`: it stays where it is.
    pub move_every: Option<Duration>,
    /// What users may.
    pub users: UserConfig,
    /// The cookie.
    pub cookie: CookieOptions,
}

/// The attributes of the session cookie; `HttpOnly` is always set.
#[derive(Clone, Debug)]
pub struct CookieOptions {
    /// Name, with its `__Host-` prefix if it has one.
    pub name: String,
    /// `Secure`.
    pub secure: bool,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Domain`; none binds it to the host.
    pub domain: Option<String>,
    /// `Path`.
    pub path: String,
    /// Name of the cookie that names the owner of the session, if there is to be one.
    pub affinity: Option<String>,
}

impl SessionOptions {
    /// What a node's options say. Where commands to Redis may take less than they do by default, requests wait for little more
    /// than one; otherwise for so long that a connection that is closed twice in a row can be replaced.
    pub(crate) fn of(config: &Config) -> Self {
        let mut options = Self::from(&config.session);
        let command = config.redis.as_ref().map(|redis| redis.command_timeout);
        if let Some(command) = command.filter(|command| *command < USUAL_COMMAND) {
            options.store_patience = command + command / 4;
        }
        options
    }

    /// How often an access is written down: so early that a write of which the store took no note, being an access less
    /// than a quarter of the touch interval after the last, does not make the next note come late.
    pub(crate) fn touch_every(&self) -> Duration {
        self.touch * 3 / 4
    }
}

impl From<&SessionConfig> for SessionOptions {
    fn from(config: &SessionConfig) -> Self {
        Self {
            idle: config.idle,
            absolute: config.absolute,
            long_idle: config.long_idle,
            long_absolute: config.long_absolute,
            touch: config.touch,
            limits: Limits {
                attribute_bytes: config.max_attribute_bytes,
                session_bytes: config.max_bytes,
                pack_above: config.compress_above,
            },
            passivate_after: config.passivate_after,
            actors_max: config.actors_max,
            wait: config.wait,
            store_patience: STORE_PATIENCE,
            move_every: config.placement.move_every,
            users: config.users.clone(),
            cookie: CookieOptions {
                name: config.cookie_name.clone(),
                secure: config.cookie_secure,
                same_site: config.cookie_samesite,
                domain: config.cookie_domain.clone(),
                path: config.cookie_path.clone(),
                affinity: config.placement.affinity_cookie.clone(),
            },
        }
    }
}
