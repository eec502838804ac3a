//! Sessions within a session: for parts of an application that keep a state of their own for as long as the session lives.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::slot::{Access, Settling, checked, judged, name_of, settled, to_json};
use super::{Session, UPDATE_TRIES};
use crate::engine::View;
use crate::error::SessionError;
use crate::handle::{ChildBegan, ChildId};
use crate::schema::{FIRST, changed, decode, encode};
use crate::state::{Op, Outcome};

/// How often somebody else may be faster in beginning the child, before it is taken to be ending.
const TRIES: usize = 3;

/// A session within a session, by name: with attributes, an owner and a version of its own, so that changes of it and of its
/// parent do not wait for each other. It begins with its first write and ends with its parent, however that ends; it belongs
/// to the same user, and has no cookie.
///
/// It is never shown without its parent: each call looks at that first, which costs nothing where the parent is in memory.
/// When the parent ends, the child is out of reach at once on every node, and is removed right after that, or by the leader
/// when the node dies in between. When another user logs in in the same session, names are free again. Its attributes have no
/// [schema](crate::schema).
///
/// ```
/// use actix_web::{HttpResponse, Responder};
/// use understudy_session::{Session, SessionError};
///
/// async fn next_step(session: Session) -> Result<impl Responder, SessionError> {
///     let wizard = session.child("tax-return-2026")?;
///     let step = wizard.increment("step", 1).await?;
///     Ok(HttpResponse::Ok().body(format!("step {step}")))
/// }
/// # let _ = actix_web::web::post().to(next_step);
/// ```
#[derive(Clone)]
pub struct Child {
    parent: Session,
    name: String,
    /// Whether it was noted that this request uses the child.
    visited: Rc<Cell<bool>>,
}

impl Session {
    /// Gives a child of this session; nothing is looked up before its first call. A session has up to 32 children at a time.
    ///
    /// # Errors
    /// [`SessionError::BadName`] when the name is empty or longer than 256 bytes.
    pub fn child(&self, name: &str) -> Result<Child, SessionError> {
        Ok(Child { parent: self.clone(), name: checked(name)?, visited: Rc::default() })
    }
}

impl Child {
    /// Gives its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives an attribute, or `None` if it, the child or the session is not there.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SessionError> {
        let Some(view) = self.view().await? else { return Ok(None) };
        let Some(text) = view.record.attributes.get(name) else { return Ok(None) };
        decode(None, text).map(Some).map_err(|error| error.of(name))
    }

    /// Gives all attributes; empty if there is no child.
    ///
    /// # Errors
    /// As [`Session::entries`].
    pub async fn entries(&self) -> Result<BTreeMap<String, serde_json::Value>, SessionError> {
        let Some(view) = self.view().await? else { return Ok(BTreeMap::new()) };
        let parse = |(name, text): (&Arc<str>, &Arc<str>)| {
            decode(None, text)
                .map(|value: serde_json::Value| (name.to_string(), value))
                .map_err(|error| error.of(name))
        };
        view.record.attributes.iter().map(parse).collect()
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// [`SessionError::NoSession`] when there is no session yet; [`SessionError::TooManyChildren`] when it has as many as it
    /// may; [`SessionError::Ended`] when the child or its parent has just ended; else as [`Session::insert`].
    pub async fn insert<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), SessionError> {
        let value = encode(None, value).map_err(|error| error.of(name))?;
        self.write(Op::Set { name: checked(name)?, value, knows: FIRST }).await.map(|_| ())
    }

    /// Removes an attribute; says whether it was there.
    ///
    /// # Errors
    /// When it cannot be stored now.
    pub async fn remove(&self, name: &str) -> Result<bool, SessionError> {
        if self.view().await?.is_none() {
            return Ok(false);
        }
        Ok(self.write(Op::Remove { name: checked(name)? }).await? == Outcome::Flag(true))
    }

    /// Adds to an attribute that is an integer (absent: 0) and gives the new number.
    ///
    /// # Errors
    /// As [`Session::increment`] and [`Self::insert`].
    pub async fn increment(&self, name: &str, by: i64) -> Result<i64, SessionError> {
        let outcome = self.write(Op::Increment { name: checked(name)?, by }).await?;
        let Outcome::Number(number) = outcome else {
            return Err(SessionError::WrongType { name: name.to_owned() });
        };
        Ok(number)
    }

    /// Appends to an attribute that is an array (absent: empty) and gives the new length.
    ///
    /// # Errors
    /// As [`Session::append`] and [`Self::insert`].
    pub async fn append<T: Serialize + ?Sized>(
        &self,
        name: &str,
        item: &T,
    ) -> Result<u64, SessionError> {
        let item = to_json(name, item)?;
        let outcome = self.write(Op::Append { name: checked(name)?, item }).await?;
        let Outcome::Length(length) = outcome else {
            return Err(SessionError::WrongType { name: name.to_owned() });
        };
        Ok(length)
    }

    /// Changes an attribute with a function and gives what the function gives; an absent one begins as `T::default()`. The
    /// function runs again if another change came first, so it must have no effect but on its argument.
    ///
    /// # Errors
    /// As [`Session::update`] and [`Self::insert`].
    pub async fn update<T, R, F>(&self, name: &str, mut change: F) -> Result<R, SessionError>
    where
        T: Serialize + DeserializeOwned + Default,
        F: FnMut(&mut T) -> R + Send,
    {
        let attribute = checked(name)?;
        for _ in 0..UPDATE_TRIES {
            let view = self.view().await?;
            let seen =
                view.and_then(|view| view.record.attributes.get(name).map(ToString::to_string));
            let (value, result) = changed::<T, R>(None, seen.as_deref(), &mut change)
                .map_err(|error| error.of(name))?;
            match self.try_write(Op::CompareAndSet { name: attribute.clone(), seen, value }).await {
                Ok(_) => return Ok(result),
                Err(Settling::Changed | Settling::Gone) => {}
                Err(Settling::Error(error)) => return Err(error),
            }
        }
        Err(SessionError::Busy)
    }

    /// Removes all attributes; the child stays.
    ///
    /// # Errors
    /// When it cannot be stored now.
    pub async fn clear(&self) -> Result<(), SessionError> {
        if self.view().await?.is_none() {
            return Ok(());
        }
        self.write(Op::Clear).await.map(|_| ())
    }

    /// Ends the child on every node; its parent stays. For a minute it cannot begin again, so that no request that is still
    /// under way brings it back; with `UNDERSTUDY_SESSION_PERSIST` it cannot for as long as the database knows of its end, which
    /// is longer than its parent lives as a rule: then give the next one another name.
    ///
    /// # Errors
    /// When its end cannot be stored now.
    pub async fn end(&self) -> Result<(), SessionError> {
        let Some(id) = self.id().await? else { return Ok(()) };
        Ok(self.parent.0.handle.revoke(id.locator, Some(id.secret)).await?)
    }

    /// Says which session this is; `None` without a parent.
    async fn id(&self) -> Result<Option<ChildId>, SessionError> {
        let Some(view) = self.parent.view().await? else { return Ok(None) };
        let Some(presented) = self.parent.presented() else { return Ok(None) };
        let own = &self.parent.0.handle.0.options;
        let longest = own.absolute.max(own.long_absolute).as_millis();
        let longest_ms = u64::try_from(longest).unwrap_or(u64::MAX);
        Ok(Some(ChildId::new(presented.locator, &view, &self.name, longest_ms)))
    }

    async fn view(&self) -> Result<Option<View>, SessionError> {
        let Some(id) = self.id().await? else { return Ok(None) };
        let handle = &self.parent.0.handle;
        for _ in 0..TRIES {
            if !handle.is_child_there(id.locator).await? {
                return Ok(None);
            }
            let view = match self.parent.0.access.get() {
                Access::Use => handle.view(id.locator, &id.secret).await?,
                Access::Look => handle.peek(id.locator, &id.secret).await?,
            };
            // There and not shown: it ended just now, or it began after somebody here had looked for it in vain.
            if view.is_some() {
                self.note_use(&id);
                return Ok(view);
            }
        }
        Ok(None)
    }

    async fn write(&self, op: Op) -> Result<Outcome, SessionError> {
        self.try_write(op).await.map_err(Settling::into_error)
    }

    async fn try_write(&self, op: Op) -> Result<Outcome, Settling> {
        let id = self.id().await.map_err(Settling::Error)?;
        let Some(id) = id else { return Err(Settling::Error(SessionError::NoSession)) };
        let handle = &self.parent.0.handle;
        let name = name_of(&op).to_owned();
        for _ in 0..TRIES {
            let is_there = handle.is_child_there(id.locator).await;
            if is_there.map_err(|refusal| Settling::Error(refusal.into()))? {
                self.note_use(&id);
                match judged(handle.ask(id.locator, id.secret, op.clone()).await, &name, false) {
                    Err(Settling::Gone) => {} // it ended just now
                    answer => return answer,
                }
            }
            match handle.begin_child(&id, op.clone()).await.map_err(Settling::Error)? {
                ChildBegan::Begun(outcome) | ChildBegan::Vain(outcome) => {
                    return settled(outcome, &name, true);
                }
                ChildBegan::Exists => {} // somebody else was faster, or it has just ended
            }
        }
        Err(Settling::Error(SessionError::Ended))
    }

    fn note_use(&self, id: &ChildId) {
        if self.parent.0.access.get() == Access::Use && !self.visited.replace(true) {
            self.parent.0.handle.note_use(id.locator);
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("parent", &self.parent).finish_non_exhaustive()
    }
}
