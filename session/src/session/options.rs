//! How long a session lives after a login.

use std::time::Duration;

use crate::options::SessionOptions;

/// How long a session lives after a login, and its cookie. What is asked for is brought down to what the operator allows:
/// `UNDERSTUDY_SESSION_LONG_IDLE_S` and `UNDERSTUDY_SESSION_LONG_ABSOLUTE_S`, or the usual times where those are longer. An idle
/// time is never less than the touch interval, or a session in use would end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoginOptions {
    /// How long it lives without a request; `None`: as usual.
    pub idle: Option<Duration>,
    /// How long it lives at most; `None`: as usual.
    pub absolute: Option<Duration>,
    /// How long the browser keeps the cookie.
    pub cookie: CookieLife,
}

/// How long a browser keeps a session's cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CookieLife {
    /// Until it is closed.
    #[default]
    UntilClosed,
    /// As long as the session may live at most.
    Lasting,
}

impl LoginOptions {
    /// "Remember me": as long as the operator allows, also when the browser is closed meanwhile.
    #[must_use]
    pub const fn remembered() -> Self {
        Self {
            idle: Some(Duration::MAX),
            absolute: Some(Duration::MAX),
            cookie: CookieLife::Lasting,
        }
    }

    pub(super) fn idle_within(&self, own: &SessionOptions) -> Duration {
        let longest = own.idle.max(own.long_idle);
        self.idle.unwrap_or(own.idle).min(longest).max(own.touch)
    }

    pub(super) fn absolute_within(&self, own: &SessionOptions) -> Duration {
        let longest = own.absolute.max(own.long_absolute);
        self.absolute.unwrap_or(own.absolute).min(longest).max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use understudy_runtime::config::Config;

    use super::*;

    #[test]
    fn s3_what_a_login_asks_for_is_bounded() {
        let own = SessionOptions {
            idle: Duration::from_secs(60),
            absolute: Duration::from_secs(600),
            long_idle: Duration::from_secs(6_000),
            long_absolute: Duration::from_secs(300),
            touch: Duration::from_secs(10),
            ..SessionOptions::from(&Config::for_test().session)
        };
        let times = |options: LoginOptions| {
            (options.idle_within(&own).as_secs(), options.absolute_within(&own).as_secs())
        };
        assert_eq!(times(LoginOptions::default()), (60, 600));
        assert_eq!(times(LoginOptions::remembered()), (6_000, 600), "the usual time is allowed");
        let short = Some(Duration::ZERO);
        let short = LoginOptions { idle: short, absolute: short, ..LoginOptions::default() };
        assert_eq!(times(short), (10, 1), "not less than a use is noted late");
    }
}
