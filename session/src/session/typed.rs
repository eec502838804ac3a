//! Attributes by their [schema](crate::schema), the state of a session as one value, and what is told of a refusal.

use std::sync::Arc;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::Session;
use super::slot::checked;
use crate::error::SessionError;
use crate::schema::{Schema, SessionState, decode, encode, known};
use crate::sizes::{Growth, Sizes};
use crate::state::Op;

impl Session {
    /// Gives the state of the session; the default if it or the session is not there.
    ///
    /// # Errors
    /// [`SessionError::NewerSchema`] when a newer release wrote it, [`SessionError::SchemaStep`] when an older one did and it cannot
    /// be brought to this one's version, [`SessionError::WrongType`] when it is something else; it stays as it is in all of these.
    /// Else when the session cannot be read now.
    pub async fn state<S: SessionState>(&self) -> Result<S, SessionError> {
        let schema = Schema::of::<S>();
        let state: Option<S> = self.get_as(S::NAME, Some(&schema)).await?;
        Ok(state.unwrap_or_default())
    }

    /// Changes the state of the session with a function and gives what the function gives; an absent one begins as the default.
    /// The function may run more than once, as in [`Self::update`], so it must have no effect but on its argument.
    ///
    /// # Errors
    /// As [`Self::state`]; else when it is too large or cannot be stored now.
    pub async fn update_state<S, R, F>(&self, change: F) -> Result<R, SessionError>
    where
        S: SessionState,
        R: Send + 'static,
        F: FnMut(&mut S) -> R + Clone + Send + 'static,
    {
        self.update_as(S::NAME, Some(Arc::new(Schema::of::<S>())), change).await
    }

    /// Replaces the state of the session.
    ///
    /// # Errors
    /// As [`Self::update_state`].
    pub async fn put_state<S: SessionState>(&self, state: &S) -> Result<(), SessionError> {
        let schema = Schema::of::<S>();
        self.insert_as(S::NAME, Some(&schema), state).await
    }

    /// Gives the schema of an attribute, if it has one.
    pub(super) fn schema(&self, name: &str) -> Option<Arc<Schema>> {
        self.0.handle.0.schemas.of(name)
    }

    pub(super) async fn get_as<T: DeserializeOwned>(
        &self,
        name: &str,
        schema: Option<&Schema>,
    ) -> Result<Option<T>, SessionError> {
        let Some(view) = self.view().await? else {
            return Ok(None);
        };
        let Some(text) = view.record.attributes.get(name) else {
            return Ok(None);
        };
        decode(schema, text).map(Some).map_err(|error| error.of(name))
    }

    pub(super) async fn insert_as<T: Serialize + ?Sized>(
        &self,
        name: &str,
        schema: Option<&Schema>,
        value: &T,
    ) -> Result<(), SessionError> {
        let value = encode(schema, value).map_err(|error| error.of(name))?;
        let op = Op::Set { name: checked(name)?, value, knows: known(schema) };
        self.write_as(op, schema).await.map(|_| ())
    }

    /// Adds to an integer that may be stored in another version than the latest.
    pub(super) async fn increment_by_steps(
        &self,
        name: &str,
        schema: Arc<Schema>,
        by: i64,
    ) -> Result<i64, SessionError> {
        let add = move |number: &mut i64| -> Option<i64> {
            *number = number.checked_add(by)?;
            Some(*number)
        };
        let added: Option<i64> = self.update_as(name, Some(schema), add).await?;
        added.ok_or_else(|| SessionError::WrongType { name: name.to_owned() })
    }

    /// Appends to an array that may be stored in another version than the latest.
    pub(super) async fn append_by_steps(
        &self,
        name: &str,
        schema: Arc<Schema>,
        item: String,
    ) -> Result<u64, SessionError> {
        let item = RawValue::from_string(item)
            .map_err(|source| SessionError::NotJson { name: name.to_owned(), source })?;
        let add = move |items: &mut Vec<Box<RawValue>>| -> u64 {
            items.push(item.clone());
            items.len() as u64
        };
        self.update_as(name, Some(schema), add).await
    }

    /// Says more of a refusal than the owner of the session did: what is too large, or that it is not the type but the schema.
    pub(super) async fn explained(
        &self,
        error: SessionError,
        schema: Option<&Schema>,
        growth: Growth,
    ) -> SessionError {
        if let SessionError::TooLarge { name, sizes: None } = &error {
            let view = self.view().await.ok().flatten();
            let record = view.as_ref().map(|view| &*view.record);
            let sizes = Sizes::of(record, name, growth, &self.0.handle.0.options.limits);
            return SessionError::TooLarge { name: name.clone(), sizes: Some(Box::new(sizes)) };
        }
        if let SessionError::WrongType { name } = &error {
            let view = self.view().await.ok().flatten();
            let text = view.as_ref().and_then(|view| view.record.attributes.get(name.as_str()));
            if let Some(Err(found)) = text.map(|text| decode::<IgnoredAny>(schema, text)) {
                return found.of(name);
            }
        }
        error
    }
}

/// Tells how long the attribute becomes that an operation changes.
pub(super) fn growth_of(op: &Op) -> Growth {
    match op {
        Op::Set { value, .. } | Op::CompareAndSet { value, .. } => Growth::To(value.len()),
        Op::Append { item, .. } => Growth::By(item.len()),
        Op::Remove { .. }
        | Op::Increment { .. }
        | Op::Clear
        | Op::Login { .. }
        | Op::Rotate { .. } => Growth::Unknown,
    }
}
