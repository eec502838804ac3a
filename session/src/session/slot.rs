//! What a request knows of its session: the cookie it came with, and the one it leaves with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderValue};

use serde::Serialize;
use understudy_runtime::ids::{NodeId, NodeName};

use super::Session;
use crate::engine::{Refusal, View};
use crate::error::SessionError;
pub(super) use crate::handle::Access;
use crate::handle::SessionHandle;
use crate::keyring::{Opened, SecretBytes};
use crate::record::Locator;
use crate::state::{Op, Outcome, Rejection};

pub(super) struct Slot {
    pub(super) handle: Rc<SessionHandle>,
    pub(super) state: RefCell<State>,
    /// Whether looking at the session in this request is a use of it.
    pub(super) access: Cell<Access>,
    /// Whether it was noted that this request uses the session.
    pub(super) visited: Cell<bool>,
    /// The node that the request's affinity cookie names.
    pub(super) affinity: Option<String>,
    /// Held while a session begins, so that two writes of one request do not begin two.
    pub(super) beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) presented: Option<Presented>,
    pub(super) cookie: Option<CookieChange>,
    /// Who owned the session when this request last looked at it.
    pub(super) owner: Option<Owner>,
}

pub(super) enum Owner {
    /// This node.
    Here,
    /// Another one.
    Elsewhere(NodeId),
}

#[derive(Clone, Copy)]
pub(super) struct Presented {
    pub(super) locator: Locator,
    pub(super) secret: SecretBytes,
    /// This request saw it alive: from now on its end is an error, not the absence of a session.
    pub(super) seen: bool,
    pub(super) outdated: bool,
    /// How long the cookie lasts from now on, as far as this request has seen; `None`: it ends with the browser.
    pub(super) max_age: Option<Duration>,
}

pub(super) enum CookieChange {
    Set,
    Remove,
}

impl Session {
    pub(super) fn presented(&self) -> Option<Presented> {
        self.0.state.borrow().presented
    }

    /// Notes that the session is alive; says whether another key signed its cookie.
    pub(super) fn saw(&self) -> bool {
        let mut state = self.0.state.borrow_mut();
        state.presented.as_mut().is_some_and(|presented| {
            presented.seen = true;
            presented.outdated
        })
    }

    /// Notes what the session is; then a cookie that another key signed is signed anew with the answer.
    pub(super) fn saw_record(&self, view: &View) {
        let left_ms = view.record.absolute_ms.saturating_sub(view.now_ms);
        let max_age = view.record.is_lasting().then_some(Duration::from_millis(left_ms));
        let is_use = self.0.access.get() == Access::Use;
        if is_use && view.owner.is_some() {
            self.note_use();
        }
        let mut state = self.0.state.borrow_mut();
        let State { presented, cookie, owner } = &mut *state;
        // A mere look does not ask whether the owner still lives.
        *owner = is_use.then(|| view.owner.clone().map_or(Owner::Here, Owner::Elsewhere));
        if let Some(presented) = presented {
            presented.seen = true;
            presented.max_age = max_age;
            if std::mem::take(&mut presented.outdated) {
                cookie.get_or_insert(CookieChange::Set);
            }
        }
    }

    /// Notes, once per request, that the session is used at this node.
    pub(super) fn note_use(&self) {
        if !self.0.visited.replace(true)
            && let Some(presented) = self.presented()
        {
            self.0.handle.note_use(presented.locator);
        }
    }

    /// Uses a new secret from here on, and sends it with the answer.
    pub(super) fn carry(&self, presented: Presented) {
        let mut state = self.0.state.borrow_mut();
        state.presented = Some(presented);
        state.cookie = Some(CookieChange::Set);
    }

    /// The cookie of the request opens nothing; it is never adopted.
    pub(super) fn forget_presented(&self) {
        self.0.state.borrow_mut().presented = None;
    }

    /// Adds to the answer what the session has to say: its cookies.
    pub(crate) fn finish(&self, headers: &mut HeaderMap) {
        self.finish_session(headers);
        let options = &self.0.handle.0.options.cookie;
        let Some(name) = &options.affinity else { return };
        let value = match (self.affinity_wanted(), &self.0.affinity) {
            (Affinity::To(node), told) if told.as_deref() != Some(node.as_str()) => {
                crate::cookie::set_other(options, name, node.as_str())
            }
            (Affinity::None, Some(_)) => crate::cookie::remove_other(options, name),
            (Affinity::To(_) | Affinity::None | Affinity::Unknown, _) => return,
        };
        add_cookie(headers, &value);
    }

    /// Says to which node the next request should go.
    fn affinity_wanted(&self) -> Affinity {
        let state = self.0.state.borrow();
        let handle = &self.0.handle.0;
        if matches!(state.cookie, Some(CookieChange::Remove)) {
            return Affinity::None;
        }
        let Some(presented) = &state.presented else { return Affinity::Unknown };
        match &state.owner {
            Some(Owner::Elsewhere(node)) => Affinity::To(node.name().clone()),
            Some(Owner::Here) => Affinity::To(handle.node_id.name().clone()),
            None => {
                let resident = handle.residents.get(&presented.locator);
                let is_here = resident.is_some_and(|resident| resident.cell.is_owned());
                if is_here {
                    Affinity::To(handle.node_id.name().clone())
                } else {
                    Affinity::Unknown
                }
            }
        }
    }

    fn finish_session(&self, headers: &mut HeaderMap) {
        let state = self.0.state.borrow();
        let options = &self.0.handle.0.options.cookie;
        let value = match (&state.cookie, &state.presented) {
            (None, _) | (Some(CookieChange::Set), None) => return,
            (Some(CookieChange::Set), Some(presented)) => {
                let value = self.0.handle.0.keyring.seal(presented.locator, presented.secret);
                match presented.max_age {
                    Some(max_age) => crate::cookie::set_for(options, &value, max_age),
                    None => crate::cookie::set(options, &value),
                }
            }
            (Some(CookieChange::Remove), _) => crate::cookie::remove(options),
        };
        add_cookie(headers, &value);
    }
}

/// Where the next request of a browser should go.
enum Affinity {
    /// To this node.
    To(NodeName),
    /// Anywhere: there is no session any more.
    None,
    /// This request has not learned it.
    Unknown,
}

fn add_cookie(headers: &mut HeaderMap, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(header::SET_COOKIE, value);
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// How an answer is to be taken.
pub(super) enum Settling {
    /// The cookie of the request opens nothing: as if there were none.
    Gone,
    /// The attribute changed meanwhile.
    Changed,
    Error(SessionError),
}

impl Settling {
    pub(super) fn into_error(self) -> SessionError {
        match self {
            Self::Gone => SessionError::Ended,
            Self::Changed => SessionError::Conflict,
            Self::Error(error) => error,
        }
    }
}

pub(super) fn judged(
    answer: Result<(Outcome, u64), Refusal>,
    name: &str,
    seen: bool,
) -> Result<Outcome, Settling> {
    match answer {
        Ok((outcome, _version)) => settled(outcome, name, seen),
        Err(Refusal::Ended) if !seen => Err(Settling::Gone),
        Err(refusal) => Err(Settling::Error(refusal.into())),
    }
}

pub(super) fn settled(outcome: Outcome, name: &str, seen: bool) -> Result<Outcome, Settling> {
    let Outcome::Rejected(rejection) = outcome else {
        return Ok(outcome);
    };
    Err(match rejection {
        Rejection::StaleSecret if seen => Settling::Error(SessionError::Ended),
        Rejection::StaleSecret => Settling::Gone,
        Rejection::Changed => Settling::Changed,
        Rejection::WrongType => Settling::Error(SessionError::WrongType { name: name.to_owned() }),
        Rejection::TooLarge => {
            Settling::Error(SessionError::TooLarge { name: name.to_owned(), sizes: None })
        }
    })
}

/// Finds the session cookie among the cookies of the request; of several with the name, the first that is ours.
pub(super) fn presented(handle: &SessionHandle, headers: &HeaderMap) -> Option<Presented> {
    let name = &handle.0.options.cookie.name;
    let mut rejected = false;
    for value in headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok()) {
        for value in crate::cookie::values(value, name) {
            if let Some(opened) = handle.0.keyring.open(value) {
                let Opened { locator, secret, outdated } = opened;
                let presented = Presented { locator, secret, seen: false, outdated, max_age: None };
                return Some(presented);
            }
            rejected = true;
        }
    }
    if rejected {
        handle.0.counters.rejected_cookies.increment(1);
    }
    None
}

/// Finds what the affinity cookie of the request says, if there is to be one.
pub(super) fn affinity(handle: &SessionHandle, headers: &HeaderMap) -> Option<String> {
    let name = handle.0.options.cookie.affinity.as_deref()?;
    let mut values = headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    values.find_map(|value| crate::cookie::values(value, name).next().map(str::to_owned))
}

pub(super) fn to_json<T: Serialize + ?Sized>(
    name: &str,
    value: &T,
) -> Result<String, SessionError> {
    serde_json::to_string(value)
        .map_err(|source| SessionError::NotJson { name: name.to_owned(), source })
}

pub(super) fn checked(name: &str) -> Result<String, SessionError> {
    if name.is_empty() || name.len() > 256 {
        Err(SessionError::BadName)
    } else {
        Ok(name.to_owned())
    }
}

pub(super) fn name_of(op: &Op) -> &str {
    match op {
        Op::Set { name, .. }
        | Op::Remove { name }
        | Op::Increment { name, .. }
        | Op::Append { name, .. }
        | Op::CompareAndSet { name, .. } => name,
        Op::Clear | Op::Login { .. } | Op::Rotate { .. } => "",
    }
}
