//! Logging in and out, and new secrets.

use std::cell::RefCell;
use std::time::Duration;

use super::Session;
use super::options::{CookieLife, LoginOptions};
use super::slot::{CookieChange, Presented, Settling, judged, settled};
use crate::engine::Refusal;
use crate::error::SessionError;
use crate::keyring::SecretBytes;
use crate::options::SessionOptions;
use crate::record::Locator;
use crate::state::{Op, Outcome};
use crate::users::{Login, is_name};

/// How long the old cookie works after a rotation that is no login, for requests already on their way.
const ROTATION_GRACE: Duration = Duration::from_secs(10);

/// A login as it was asked for.
struct Wanted<'a> {
    user: &'a str,
    secret: SecretBytes,
    lifetime_ms: u64,
    /// How long the cookie lasts, unless it ends with the browser.
    max_age: Option<Duration>,
    op: Op,
}

impl<'a> Wanted<'a> {
    fn new(user: &'a str, options: LoginOptions, own: &SessionOptions) -> Self {
        let secret = SecretBytes::random();
        let absolute = options.absolute_within(own);
        let max_age = (options.cookie == CookieLife::Lasting).then_some(absolute);
        let lifetime_ms = whole_ms(absolute);
        let op = Op::Login {
            user: user.to_owned(),
            secret: secret.hash().to_text(),
            lifetime_ms,
            idle_ms: Some(whole_ms(options.idle_within(own))),
            lasting: max_age.is_some(),
        };
        Self { user, secret, lifetime_ms, max_age, op }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Session {
    /// Logs a user in: names the user, gives the session a new secret (the old cookie is dead on every node when this
    /// returns) and a new life. What another user left in the session is removed first.
    ///
    /// A user may have up to `UNDERSTUDY_SESSION_MAX_PER_USER` sessions, on all nodes together. Beyond that the session that
    /// logged in longest ago ends on every node, or the login is refused (`UNDERSTUDY_SESSION_MAX_POLICY`). How this is kept
    /// whatever dies is told in [`crate::users`].
    ///
    /// # Errors
    /// [`SessionError::BadUser`] for a name that is empty, longer than 256 bytes, or has control characters in it;
    /// [`SessionError::TooManySessions`] when the user may not have another one; [`SessionError::Ended`] when another login,
    /// a logout or an operator came first; else when it cannot be stored now.
    pub async fn login(&self, user: &str) -> Result<(), SessionError> {
        self.login_with(user, LoginOptions::default()).await
    }

    /// Logs a user in as [`Self::login`] does, in a session that lives as long as `options` say, within what the operator allows:
    /// "remember me" is [`LoginOptions::remembered`]. [`Self::info`] tells what came of it. It stays so until the next login.
    ///
    /// How long it lives is part of the record, and written with the login behind the same fence. An owner of an older version
    /// passes over the idle time, which stays as it was then.
    ///
    /// # Errors
    /// As [`Self::login`].
    pub async fn login_with(&self, user: &str, options: LoginOptions) -> Result<(), SessionError> {
        if !is_name(user) {
            return Err(SessionError::BadUser);
        }
        let wanted = Wanted::new(user, options, &self.0.handle.0.options);
        // Whether this request has seen the session before: only then is it an error that it is over.
        let seen = self.presented().is_some_and(|presented| presented.seen);
        let before = self.view().await?.and_then(|view| view.record.user.clone());
        if let Some(presented) = self.presented() {
            let presented = Presented { seen, ..presented };
            if self.log_in(presented, &wanted, before.as_deref()).await? {
                return Ok(());
            }
            self.forget_presented();
        }
        self.begin_logged_in(&wanted).await
    }

    /// Logs in in the session that the request came with; gives false when that is over, or another's.
    async fn log_in(
        &self,
        presented: Presented,
        wanted: &Wanted<'_>,
        before: Option<&str>,
    ) -> Result<bool, SessionError> {
        let (handle, locator) = (&self.0.handle, presented.locator);
        let login = handle.enroll(wanted.user, locator, wanted.lifetime_ms).await?;
        let answer = handle.ask(locator, presented.secret.hash(), wanted.op.clone()).await;
        let surely_not_in = is_surely_not_in(&answer);
        match judged(answer, "", presented.seen) {
            Ok(_) => {
                login.confirm().await?;
                let Wanted { secret, max_age, .. } = *wanted;
                self.carry(Presented { locator, secret, seen: true, outdated: false, max_age });
                if let Some(before) = before.filter(|before| *before != wanted.user) {
                    self.leave_roll(before, locator).await;
                }
                Ok(true)
            }
            Err(settling) => {
                if surely_not_in {
                    login.withdraw().await;
                }
                match settling {
                    Settling::Gone => Ok(false),
                    Settling::Changed => Err(SessionError::Conflict),
                    Settling::Error(error) => Err(error),
                }
            }
        }
    }

    /// Tells the roll of the user before that the session is another's now; whoever looks does it when this fails.
    async fn leave_roll(&self, before: &str, locator: Locator) {
        if let Err(error) = self.0.handle.leave_roll(before, locator).await {
            tracing::debug!(%error, "the roll of a user names a session of another");
        }
    }

    /// Begins a session in which the user is logged in.
    async fn begin_logged_in(&self, wanted: &Wanted<'_>) -> Result<(), SessionError> {
        let _one_at_a_time = self.0.beginning.lock().await;
        if let Some(begun) = self.presented() {
            // Another write of this request was faster.
            let done = self.log_in(Presented { seen: true, ..begun }, wanted, None).await?;
            return if done { Ok(()) } else { Err(SessionError::Ended) };
        }
        let handle = &self.0.handle;
        let login: RefCell<Option<Login<'_>>> = RefCell::new(None);
        let prepare = async |locator| {
            // The attempt before this one may be in, but nobody has its secret.
            withdraw(login.take()).await;
            let enrolled = handle.enroll(wanted.user, locator, wanted.lifetime_ms).await?;
            login.replace(Some(enrolled));
            Ok::<(), SessionError>(())
        };
        let ops = vec![wanted.op.clone()];
        let created = handle.create_after(wanted.secret.hash(), ops, prepare).await;
        let (locator, outcomes) = match created {
            Ok(created) => created,
            Err(error) => {
                withdraw(login.take()).await;
                return Err(error);
            }
        };
        let outcome = outcomes.into_iter().next().unwrap_or(Outcome::Done);
        settled(outcome, "", true).map_err(Settling::into_error)?;
        if let (Some(locator), Some(login)) = (locator, login.take()) {
            login.confirm().await?;
            let Wanted { secret, max_age, .. } = *wanted;
            self.carry(Presented { locator, secret, seen: true, outdated: false, max_age });
        }
        Ok(())
    }

    /// Gives the session a new secret, after a change of privileges for example. The old cookie works for ten more
    /// seconds, for requests already on their way. Without a session nothing happens.
    ///
    /// # Errors
    /// When it cannot be stored now.
    pub async fn rotate(&self) -> Result<(), SessionError> {
        if self.view().await?.is_none() {
            return Ok(());
        }
        let Some(presented) = self.presented() else { return Ok(()) };
        let secret = SecretBytes::random();
        let keep_ms = u64::try_from(ROTATION_GRACE.as_millis()).unwrap_or(0);
        let op = Op::Rotate { secret: secret.hash().to_text(), keep_ms, authenticates: false };
        let answer = self.0.handle.ask(presented.locator, presented.secret.hash(), op).await;
        match judged(answer, "", presented.seen) {
            Ok(_) => {
                self.carry(Presented { secret, seen: true, outdated: false, ..presented });
                Ok(())
            }
            Err(settling) => Err(settling.into_error()),
        }
    }

    /// Ends all other sessions of the user who is logged in, on every node, also those whose login is under way; gives how
    /// many there were. When this returns, none of their cookies is accepted anywhere. This session stays as it is. When
    /// nobody is logged in nothing happens.
    ///
    /// If the process dies in the middle, those that are not over yet are condemned: their logins cannot succeed, and the
    /// next one who lists or ends the sessions of the user ends them. To call it again finishes it at once.
    ///
    /// # Errors
    /// [`SessionError::EndNotConfirmed`] when they are over at the store, but a node that lives did not say that it knows;
    /// else when their end cannot be stored now.
    pub async fn end_others(&self) -> Result<u64, SessionError> {
        let Some(user) = self.user().await? else { return Ok(0) };
        let Some(presented) = self.presented() else { return Ok(0) };
        Ok(self.0.handle.end_others(&user, presented.locator).await?)
    }

    /// Ends the session on every node and takes the cookie back. When this returns, neither the cookie nor a request
    /// that is still under way can use it, anywhere.
    ///
    /// # Errors
    /// When the session's end cannot be stored now.
    pub async fn logout(&self) -> Result<(), SessionError> {
        let Some(presented) = self.presented() else {
            return Ok(());
        };
        self.0.handle.revoke(presented.locator, Some(presented.secret.hash())).await?;
        let mut state = self.0.state.borrow_mut();
        state.presented = None;
        state.cookie = Some(CookieChange::Remove);
        Ok(())
    }
}

/// Gives up a place that no session came to have.
async fn withdraw(login: Option<Login<'_>>) {
    if let Some(login) = login {
        login.withdraw().await;
    }
}

/// Whether an operation was judged and changed nothing, or was not carried out and never will be.
fn is_surely_not_in(answer: &Result<(Outcome, u64), Refusal>) -> bool {
    match answer {
        Ok((outcome, _)) => matches!(outcome, Outcome::Rejected(_)),
        Err(
            Refusal::Ended
            | Refusal::Refused
            | Refusal::Busy
            | Refusal::Conflict
            | Refusal::NotOwner
            | Refusal::Unreadable,
        ) => true,
        Err(Refusal::Unavailable | Refusal::OutcomeUnknown | Refusal::Lost) => false,
    }
}
