//! The session of a request, as handlers use it.

mod authentication;
mod child;
mod events;
mod files;
mod login;
mod no_touch;
mod options;
mod progress;
mod slot;
mod typed;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Refusal, View};
use crate::error::SessionError;
use crate::handle::SessionHandle;
use crate::keyring::SecretBytes;
use crate::resident::Cell;
use crate::schema::{Schema, changed, decode};
use crate::sizes::Growth;
use crate::state::{Op, Outcome, Rejection, Task, UpdateFn};

pub use child::Child;
pub use files::{TempDir, TempFile, TempFileInfo};
pub use no_touch::NoTouch;
pub use options::{CookieLife, LoginOptions};

use slot::{Access, Presented, Settling, Slot, State};
use slot::{affinity, checked, judged, name_of, presented, settled, to_json};
use typed::growth_of;

/// How often an update is run again when others change the attribute meanwhile.
const UPDATE_TRIES: usize = 64;

/// The session of the request at hand; an extractor.
///
/// Nothing is looked up before the first call, so a handler that does not use it costs no round trip. A session begins
/// with the first write; reading one that is not there gives nothing and sets no cookie.
///
/// Every write is durable, and visible on all nodes, before its call returns. If the node dies before that, the change
/// is in or not in; the client was not told that it is.
///
/// ```
/// use actix_web::{HttpResponse, Responder};
/// use understudy_session::{Session, SessionError};
///
/// async fn count(session: Session) -> Result<impl Responder, SessionError> {
///     let visits = session.increment("visits", 1).await?;
///     Ok(HttpResponse::Ok().body(format!("visit {visits}")))
/// }
/// # let _ = actix_web::web::get().to(count);
/// ```
#[derive(Clone)]
pub struct Session(Rc<Slot>);

/// What a session is, apart from what the application keeps in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// Who is logged in.
    pub user: Option<String>,
    /// When it began, ms since 1970.
    pub created_ms: u64,
    /// When it ends whatever happens, ms since 1970.
    pub absolute_ms: u64,
    /// How long it lives without a request, ms.
    pub idle_ms: u64,
    /// When it ends if nothing more is asked of it, ms since 1970.
    pub expires_ms: u64,
    /// When the user last showed who they are, ms since 1970; `None` when that is not known.
    pub authenticated_ms: Option<u64>,
    /// Grows by one with every write.
    pub version: u64,
    /// The node that owns it.
    pub owner: Option<String>,
}

impl FromRequest for Session {
    type Error = SessionError;
    type Future = Ready<Result<Self, SessionError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        if let Some(session) = request.extensions().get::<Self>() {
            return ready(Ok(session.clone()));
        }
        // The worker's own, else that of an application without a node: counting it is dearer, since all threads do.
        let handle = request.app_data::<Rc<SessionHandle>>().cloned();
        let any = || request.app_data::<SessionHandle>().cloned().map(Rc::new);
        let Some(handle) = handle.or_else(any) else {
            return ready(Err(SessionError::NotInstalled));
        };
        let session = Self::of(handle, request.headers());
        request.extensions_mut().insert(session.clone());
        ready(Ok(session))
    }
}

impl Session {
    fn of(handle: Rc<SessionHandle>, headers: &HeaderMap) -> Self {
        let presented = presented(&handle, headers);
        let affinity = affinity(&handle, headers);
        let state = RefCell::new(State { presented, cookie: None, owner: None });
        Self(Rc::new(Slot {
            handle,
            state,
            access: std::cell::Cell::new(Access::Use),
            visited: std::cell::Cell::new(false),
            affinity,
            beginning: tokio::sync::Mutex::new(()),
        }))
    }

    /// Gives an attribute, or `None` if it or the session is not there.
    ///
    /// # Errors
    /// [`SessionError::WrongType`] when it is of another type, [`SessionError::NewerSchema`] when a newer release wrote it in a
    /// [schema](crate::schema) that this one does not know; else when the session cannot be read now.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SessionError> {
        self.get_as(name, self.schema(name).as_deref()).await
    }

    /// Gives all attributes; empty if there is no session.
    ///
    /// # Errors
    /// When the session cannot be read now.
    pub async fn entries(&self) -> Result<BTreeMap<String, serde_json::Value>, SessionError> {
        Ok(self.entries_as().await?.0)
    }

    /// Gives all attributes as values of one type, such as `Box<RawValue>` for the JSON texts as they were written, and
    /// the version of the session that had them; nothing and version 0 if there is no session.
    ///
    /// # Errors
    /// [`SessionError::WrongType`] when one is of another type, [`SessionError::NewerSchema`] when one has a schema that this node
    /// does not know; else when the session cannot be read now.
    pub async fn entries_as<T: DeserializeOwned>(
        &self,
    ) -> Result<(BTreeMap<String, T>, u64), SessionError> {
        let Some(view) = self.view().await? else {
            return Ok((BTreeMap::new(), 0));
        };
        let parse = |(name, text): (&Arc<str>, &Arc<str>)| {
            decode(self.schema(name).as_deref(), text)
                .map(|value: T| (name.to_string(), value))
                .map_err(|error| error.of(name))
        };
        let entries = view.record.attributes.iter().map(parse).collect::<Result<_, _>>()?;
        Ok((entries, view.record.version))
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// When it cannot be written as JSON, is too large, would replace one of a newer [schema](crate::schema), or cannot be
    /// stored now.
    pub async fn insert<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), SessionError> {
        self.insert_as(name, self.schema(name).as_deref(), value).await
    }

    /// Removes an attribute; says whether it was there.
    ///
    /// # Errors
    /// When it cannot be stored now.
    pub async fn remove(&self, name: &str) -> Result<bool, SessionError> {
        if self.0.state.borrow().presented.is_none() {
            return Ok(false); // nothing to remove, and no reason to begin a session
        }
        Ok(self.write(Op::Remove { name: checked(name)? }).await? == Outcome::Flag(true))
    }

    /// Adds to an attribute that is an integer (absent: 0) and gives the new number. No concurrent increment, on any
    /// node, is lost.
    ///
    /// # Errors
    /// [`SessionError::WrongType`] when it is no integer or would overflow; else when it cannot be stored now.
    pub async fn increment(&self, name: &str, by: i64) -> Result<i64, SessionError> {
        if let Some(schema) = self.schema(name).filter(|schema| schema.has_steps()) {
            return self.increment_by_steps(name, schema, by).await;
        }
        let outcome = self.write(Op::Increment { name: checked(name)?, by }).await?;
        let Outcome::Number(number) = outcome else {
            return Err(SessionError::WrongType { name: name.to_owned() });
        };
        Ok(number)
    }

    /// Appends to an attribute that is an array (absent: empty) and gives the new length.
    ///
    /// # Errors
    /// [`SessionError::WrongType`] when it is no array; else when it is too large or cannot be stored now.
    pub async fn append<T: Serialize + ?Sized>(
        &self,
        name: &str,
        item: &T,
    ) -> Result<u64, SessionError> {
        let item = to_json(name, item)?;
        if let Some(schema) = self.schema(name).filter(|schema| schema.has_steps()) {
            return self.append_by_steps(name, schema, item).await;
        }
        let outcome = self.write(Op::Append { name: checked(name)?, item }).await?;
        let Outcome::Length(length) = outcome else {
            return Err(SessionError::WrongType { name: name.to_owned() });
        };
        Ok(length)
    }

    /// Changes an attribute with a function and gives what the function gives; an absent one begins as `T::default()`.
    ///
    /// Where this node owns the session, the function runs inside the owning actor. Elsewhere it runs on a copy, and
    /// again if another change came first; so it must have no effect but on its argument.
    ///
    /// # Errors
    /// [`SessionError::WrongType`] when the attribute is of another type; else when it cannot be stored now.
    pub async fn update<T, R, F>(&self, name: &str, change: F) -> Result<R, SessionError>
    where
        T: Serialize + DeserializeOwned + Default,
        R: Send + 'static,
        F: FnMut(&mut T) -> R + Clone + Send + 'static,
    {
        self.update_as(name, self.schema(name), change).await
    }

    async fn update_as<T, R, F>(
        &self,
        name: &str,
        schema: Option<Arc<Schema>>,
        mut change: F,
    ) -> Result<R, SessionError>
    where
        T: Serialize + DeserializeOwned + Default,
        R: Send + 'static,
        F: FnMut(&mut T) -> R + Clone + Send + 'static,
    {
        let attribute = checked(name)?;
        if let Some(presented) = self.presented() {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            let length = Arc::new(AtomicUsize::new(0));
            let (mut here, known, written) = (change.clone(), schema.clone(), Arc::clone(&length));
            let update: UpdateFn = Box::new(move |present| {
                let (text, result) = match changed::<T, R>(known.as_deref(), present, &mut here) {
                    Ok((text, result)) => (Ok(text), Ok(result)),
                    Err(error) => (Err(Rejection::WrongType), Err(error)),
                };
                written.store(text.as_ref().map_or(0, String::len), Ordering::Relaxed);
                drop(sender.send(result));
                text
            });
            let task = Task::Update { name: attribute.clone(), update };
            match self.0.handle.ask_task(presented.locator, presented.secret.hash(), task).await {
                Ok((outcome, _)) => {
                    // A write that was planned twice ran the function twice; the last run is what is stored.
                    let last = std::iter::from_fn(|| receiver.try_recv().ok()).last();
                    match (settled(outcome, name, presented.seen), last) {
                        (Ok(_), last) => {
                            self.note_use();
                            let result = last.ok_or(SessionError::Busy)?;
                            return result.map_err(|error| error.of(name));
                        }
                        (Err(Settling::Gone), _) => self.forget_presented(),
                        (Err(Settling::Changed), _) => {}
                        (Err(Settling::Error(SessionError::WrongType { .. })), Some(Err(why))) => {
                            return Err(why.of(name));
                        }
                        (Err(Settling::Error(error)), _) => {
                            let growth = Growth::To(length.load(Ordering::Relaxed));
                            return Err(self.explained(error, schema.as_deref(), growth).await);
                        }
                    }
                }
                Err(Refusal::NotOwner) => {}
                Err(Refusal::Ended) if !presented.seen => self.forget_presented(),
                Err(refusal) => return Err(refusal.into()),
            }
        }
        self.update_by_comparing(&attribute, schema.as_deref(), &mut change).await
    }

    async fn update_by_comparing<T, R>(
        &self,
        name: &str,
        schema: Option<&Schema>,
        change: &mut (dyn FnMut(&mut T) -> R + Send),
    ) -> Result<R, SessionError>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let cell = self.cell();
        let mut turn = None;
        for _ in 0..UPDATE_TRIES {
            let view = self.view().await?;
            let seen =
                view.and_then(|view| view.record.attributes.get(name).map(ToString::to_string));
            let (value, result) =
                changed(schema, seen.as_deref(), change).map_err(|error| error.of(name))?;
            let growth = Growth::To(value.len());
            let op = Op::CompareAndSet { name: name.to_owned(), seen, value };
            match self.try_write(op).await {
                Ok(_) => return Ok(result),
                Err(Settling::Changed | Settling::Gone) => {}
                Err(Settling::Error(error)) => {
                    return Err(self.explained(error, schema, growth).await);
                }
            }
            if let (Some(cell), None) = (&cell, &turn) {
                // Somebody else was faster. From here on this node sends one at a time, else many would outrun each
                // other until some run out of tries.
                let wait = self.0.handle.0.options.wait;
                let waited = tokio::time::timeout(wait, cell.comparing.lock()).await;
                turn = Some(waited.map_err(|_late| SessionError::Busy)?);
            }
        }
        Err(SessionError::Busy)
    }

    /// Gives this session's place in the memory of this node.
    fn cell(&self) -> Option<Arc<Cell>> {
        let locator = self.presented()?.locator;
        self.0.handle.0.residents.get(&locator).map(|resident| Arc::clone(&resident.cell))
    }

    /// Removes all attributes; user, cookie and deadlines stay.
    ///
    /// # Errors
    /// When it cannot be stored now.
    pub async fn clear(&self) -> Result<(), SessionError> {
        if self.0.state.borrow().presented.is_none() {
            return Ok(());
        }
        self.write(Op::Clear).await.map(|_| ())
    }

    /// Tells who is logged in.
    ///
    /// # Errors
    /// When the session cannot be read now.
    pub async fn user(&self) -> Result<Option<String>, SessionError> {
        Ok(self.view().await?.and_then(|view| view.record.user.as_ref().map(ToString::to_string)))
    }

    /// Tells what the session is; `None` if there is none.
    ///
    /// # Errors
    /// When the session cannot be read now.
    pub async fn info(&self) -> Result<Option<SessionInfo>, SessionError> {
        let Some(view) = self.view().await? else {
            return Ok(None);
        };
        let record = &view.record;
        let used_ms = match (self.0.access.get(), self.presented()) {
            (Access::Look, Some(presented)) => {
                self.0.handle.last_access_ms(presented.locator, &view)
            }
            (Access::Use | Access::Look, _) => view.now_ms,
        };
        let idle_end = used_ms.saturating_add(record.idle_ms);
        let here = || self.0.handle.0.node_id.to_string();
        Ok(Some(SessionInfo {
            user: record.user.as_ref().map(ToString::to_string),
            created_ms: record.created_ms,
            absolute_ms: record.absolute_ms,
            idle_ms: record.idle_ms,
            expires_ms: idle_end.min(record.absolute_ms),
            authenticated_ms: record.authenticated_ms(),
            version: record.version,
            owner: Some(view.owner.as_ref().map_or_else(here, ToString::to_string)),
        }))
    }

    /// Names the session in logs: 12 hexadecimal digits that cannot be turned back into a cookie. `None` without one.
    #[must_use]
    pub fn id_for_logs(&self) -> Option<String> {
        Some(self.presented()?.locator.id_for_logs())
    }

    async fn view(&self) -> Result<Option<View>, SessionError> {
        let Some(presented) = self.presented() else {
            return Ok(None);
        };
        let (handle, secret) = (&self.0.handle, presented.secret.hash());
        let view = match self.0.access.get() {
            Access::Use => handle.view(presented.locator, &secret).await?,
            Access::Look => handle.peek(presented.locator, &secret).await?,
        };
        match &view {
            Some(view) => self.saw_record(view),
            None if presented.seen => return Err(SessionError::Ended),
            None => self.forget_presented(),
        }
        Ok(view)
    }

    async fn write(&self, op: Op) -> Result<Outcome, SessionError> {
        self.write_as(op, None).await
    }

    async fn write_as(&self, op: Op, schema: Option<&Schema>) -> Result<Outcome, SessionError> {
        let growth = growth_of(&op);
        match self.try_write(op).await.map_err(Settling::into_error) {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(self.explained(error, schema, growth).await),
        }
    }

    async fn try_write(&self, op: Op) -> Result<Outcome, Settling> {
        if let Some(presented) = self.presented() {
            let name = name_of(&op).to_owned();
            let answer =
                self.0.handle.ask(presented.locator, presented.secret.hash(), op.clone()).await;
            match judged(answer, &name, presented.seen) {
                Err(Settling::Gone) => self.forget_presented(),
                Ok(outcome) => {
                    self.note_use();
                    if self.saw() {
                        // Its cookie is signed anew, for as long as the record says. If that cannot be read now, the next
                        // request does it.
                        drop(self.view().await);
                    }
                    return Ok(outcome);
                }
                Err(other) => return Err(other),
            }
        }
        self.begin(SecretBytes::random(), op).await
    }

    /// Begins a session with its first write.
    async fn begin(&self, secret: SecretBytes, op: Op) -> Result<Outcome, Settling> {
        let _one_at_a_time = self.0.beginning.lock().await;
        let name = name_of(&op).to_owned();
        if let Some(begun) = self.presented() {
            let answer = self.0.handle.ask(begun.locator, begun.secret.hash(), op).await;
            return judged(answer, &name, true);
        }
        let created = self.0.handle.create(secret.hash(), vec![op]).await;
        let (locator, outcomes) = created.map_err(|refusal| Settling::Error(refusal.into()))?;
        if let Some(locator) = locator {
            let (seen, outdated, max_age) = (true, false, None);
            self.carry(Presented { locator, secret, seen, outdated, max_age });
        }
        settled(outcomes.into_iter().next().unwrap_or(Outcome::Done), &name, true)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id_for_logs()).finish_non_exhaustive()
    }
}
