//! Versions of what applications keep in attributes, so that nodes of two releases can share sessions while one replaces the
//! other, and back.
//!
//! *What is stored.* The version is a part of the value, so nothing can separate the two: not a forwarded operation, not a
//! store, not a program that knows nothing of versions. A value of version 1 is stored as it always was. One of a later version
//! is a JSON string, `"us:schema/<version> <the value as JSON>"`; a text that looks so by chance is stored as one of version 1 in
//! that form. To a program from before schemas it is a string: it keeps it, and neither adds to it nor appends to it.
//!
//! *Who upgrades.* Whoever reads, in its own memory; nothing is written for that. The next write of the attribute stores the
//! version that this release writes. That is not the latest one it knows, if the release before it must still be able to read it:
//! see [`Schema::writing`].
//!
//! *Values of a newer schema* are an error that says so, and are left as they are, byte for byte. Whoever sets an attribute tells
//! its owner which schema it knows ([`Op::Set`](crate::state::Op::Set)), and the owner compares in the same step that would
//! change it; updates are written only over what they have read. To remove such a value is allowed: it is no mistake.
//!
//! *Crashes.* Nothing of this is kept anywhere but in the value, so there is nothing to lose; a node that stands still in the
//! middle of an update has its write refused like any other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::SessionError;

#[cfg(test)]
mod tests;

/// The version of values that say nothing of one.
pub const FIRST: u32 = 1;

/// What a text with a version begins with.
const HEAD: &str = "us:schema/";
/// The same in JSON.
const OPENING: &str = "\"us:schema/";

/// Why a value cannot be brought to another version. It goes to the application as the source of
/// [`SessionError::SchemaStep`], never to a client or a log of Understudy.
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

type Step = Arc<dyn Fn(Value) -> Result<Value, StepError> + Send + Sync>;

/// The versions of one attribute, and what brings a value from one to the next.
///
/// Give it to the node (`Node::session_schema`, or [`SessionService::schema`](crate::SessionService::schema)); then `get`,
/// `insert`, `update` and the others know of it. An attribute without a schema has version 1.
///
/// ```
/// use serde_json::{Value, json};
/// use understudy_session::Schema;
///
/// // Version 1 was a list of articles; version 2 counts them.
/// let cart = Schema::new("cart", 2)
///     .upgrade(1, |articles: Value| Ok(json!({ "articles": articles, "coupon": null })))
///     .downgrade(2, |cart: Value| Ok(cart["articles"].clone()))
///     .writing(1); // until no node of the release before is left that would have to read it
/// # drop(cart);
/// ```
#[derive(Clone)]
pub struct Schema {
    name: Arc<str>,
    version: u32,
    writes: u32,
    up: BTreeMap<u32, Step>,
    down: BTreeMap<u32, Step>,
}

/// The state of a session as one value, for applications that want a type rather than names; it is the attribute
/// [`Self::NAME`].
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use serde_json::{Value, json};
/// use understudy_session::schema::StepError;
/// use understudy_session::{Session, SessionError, SessionState};
///
/// #[derive(Debug, Default, Serialize, Deserialize)]
/// struct Shop {
///     articles: Vec<String>,
///     coupon: Option<String>,
/// }
///
/// impl SessionState for Shop {
///     const NAME: &'static str = "shop";
///     const VERSION: u32 = 2;
///
///     fn upgrade(_from: u32, articles: Value) -> Result<Value, StepError> {
///         Ok(json!({ "articles": articles, "coupon": null }))
///     }
/// }
///
/// async fn add(session: Session) -> Result<String, SessionError> {
///     let articles = session
///         .update_state(|shop: &mut Shop| {
///             shop.articles.push("a pen".to_owned());
///             shop.articles.len()
///         })
///         .await?;
///     let shop: Shop = session.state().await?;
///     Ok(format!("{articles} articles, {:?}", shop.coupon))
/// }
/// # let _ = actix_web::web::get().to(add);
/// ```
pub trait SessionState: Serialize + DeserializeOwned + Default + 'static {
    /// The attribute that holds it.
    const NAME: &'static str;
    /// The version of this type.
    const VERSION: u32 = FIRST;
    /// The version that is written; see [`Schema::writing`].
    const WRITES: u32 = Self::VERSION;

    /// Brings a value from version `from` to the next.
    ///
    /// # Errors
    /// When it cannot: reading the state fails then, and it stays as it is.
    fn upgrade(from: u32, value: Value) -> Result<Value, StepError> {
        drop(value);
        Err(format!("nothing brings version {from} to the next").into())
    }

    /// Brings a value from version `from` back to the one before; asked for versions above [`Self::WRITES`].
    ///
    /// # Errors
    /// When it cannot: the state is not written then.
    fn downgrade(from: u32, value: Value) -> Result<Value, StepError> {
        drop(value);
        Err(format!("nothing brings version {from} back to the one before").into())
    }
}

impl Schema {
    /// Names an attribute and the version of what this release keeps in it, 1 or more.
    #[must_use]
    pub fn new(name: &str, version: u32) -> Self {
        let version = version.max(FIRST);
        let (up, down) = (BTreeMap::new(), BTreeMap::new());
        Self { name: name.into(), version, writes: version, up, down }
    }

    /// Takes the versions of a state.
    #[must_use]
    pub fn of<S: SessionState>() -> Self {
        let mut schema = Self::new(S::NAME, S::VERSION).writing(S::WRITES);
        for from in FIRST..schema.version {
            schema = schema.upgrade(from, move |value: Value| S::upgrade(from, value));
        }
        for from in schema.writes + 1..=schema.version {
            schema = schema.downgrade(from, move |value: Value| S::downgrade(from, value));
        }
        schema
    }

    /// Brings values from version `from` to the next. Wanted for every version from 1 on.
    #[must_use]
    pub fn upgrade<F>(mut self, from: u32, step: F) -> Self
    where
        F: Fn(Value) -> Result<Value, StepError> + Send + Sync + 'static,
    {
        self.up.insert(from, Arc::new(step));
        self
    }

    /// Brings values from version `from` back to the one before. Wanted for every version above the one that is written.
    #[must_use]
    pub fn downgrade<F>(mut self, from: u32, step: F) -> Self
    where
        F: Fn(Value) -> Result<Value, StepError> + Send + Sync + 'static,
    {
        self.down.insert(from, Arc::new(step));
        self
    }

    /// Writes this version, not the latest: as long as nodes of a release that does not know the latest may have to read it. What
    /// it cannot express is lost. A version above the latest counts as the latest, 0 as 1.
    #[must_use]
    pub fn writing(mut self, version: u32) -> Self {
        self.writes = version.clamp(FIRST, self.version);
        self
    }

    /// Gives the name of the attribute.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the latest version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Says what is missing, before a session meets it.
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if !(1..=256).contains(&name.len()) {
            return Err(format!("schema of attribute `{name}`: a name has 1 to 256 bytes"));
        }
        if let Some(from) = (FIRST..self.version).find(|from| !self.up.contains_key(from)) {
            return Err(format!("schema of attribute `{name}`: nothing upgrades version {from}"));
        }
        let mut written = self.writes + 1..=self.version;
        if let Some(from) = written.find(|from| !self.down.contains_key(from)) {
            return Err(format!("schema of attribute `{name}`: nothing downgrades version {from}"));
        }
        Ok(())
    }

    /// Whether a value of it may be stored in another form than as plain JSON of the latest version.
    pub(crate) fn has_steps(&self) -> bool {
        self.version > FIRST
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

/// The schemas of an application.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schemas(Arc<BTreeMap<Arc<str>, Arc<Schema>>>);

impl Schemas {
    /// Takes them; gives what is wrong with the first that is wrong.
    pub(crate) fn new(all: &[Schema]) -> Result<Self, String> {
        let mut schemas = BTreeMap::new();
        for schema in all {
            schema.check()?;
            let name = Arc::clone(&schema.name);
            if schemas.insert(name, Arc::new(schema.clone())).is_some() {
                return Err(format!("attribute `{}` has two schemas", schema.name));
            }
        }
        Ok(Self(Arc::new(schemas)))
    }

    /// Gives that of an attribute; one without has version 1.
    pub(crate) fn of(&self, name: &str) -> Option<Arc<Schema>> {
        self.0.get(name).cloned()
    }
}

/// Why a value cannot be read or written by its schema.
#[derive(Debug)]
pub(crate) enum SchemaError {
    /// It has a version that this release does not know.
    Newer { stored: u32, known: u32 },
    /// No step leads from this version, or the step failed.
    Step { from: u32, source: Option<StepError> },
    /// It is of another type.
    WrongType,
    /// It cannot be written as JSON.
    NotJson(serde_json::Error),
}

impl SchemaError {
    /// Says of which attribute it is.
    pub(crate) fn of(self, name: &str) -> SessionError {
        let name = name.to_owned();
        match self {
            Self::Newer { stored, known } => SessionError::NewerSchema { name, stored, known },
            Self::Step { from, source } => SessionError::SchemaStep { name, from, source },
            Self::WrongType => SessionError::WrongType { name },
            Self::NotJson(source) => SessionError::NotJson { name, source },
        }
    }
}

/// Gives the latest version that a release with this schema knows.
pub(crate) fn known(schema: Option<&Schema>) -> u32 {
    schema.map_or(FIRST, |schema| schema.version)
}

/// Gives the version of a stored value.
pub(crate) fn version_of(text: &str) -> u32 {
    let version = text.strip_prefix(OPENING).and_then(|rest| rest.split_once(' '));
    version.and_then(|(version, _)| version.parse().ok()).unwrap_or(FIRST)
}

/// Reads a stored value.
pub(crate) fn decode<T: DeserializeOwned>(
    schema: Option<&Schema>,
    text: &str,
) -> Result<T, SchemaError> {
    let (stored, json) = unwrapped(text);
    let latest = known(schema);
    if stored > latest {
        return Err(SchemaError::Newer { stored, known: latest });
    }
    if stored == latest {
        return serde_json::from_str(&json).map_err(|_| SchemaError::WrongType);
    }
    let mut value: Value = serde_json::from_str(&json).map_err(|_| SchemaError::WrongType)?;
    for from in stored..latest {
        value = stepped(schema.and_then(|schema| schema.up.get(&from)), from, value)?;
    }
    serde_json::from_value(value).map_err(|_| SchemaError::WrongType)
}

/// Writes a value as it is to be stored.
pub(crate) fn encode<T: Serialize + ?Sized>(
    schema: Option<&Schema>,
    value: &T,
) -> Result<String, SchemaError> {
    let Some(schema) = schema.filter(|schema| schema.writes < schema.version) else {
        let json = serde_json::to_string(value).map_err(SchemaError::NotJson)?;
        return Ok(wrapped(known(schema), json));
    };
    let mut value = serde_json::to_value(value).map_err(SchemaError::NotJson)?;
    for from in (schema.writes + 1..=schema.version).rev() {
        value = stepped(schema.down.get(&from), from, value)?;
    }
    Ok(wrapped(schema.writes, value.to_string()))
}

/// Works out what an update makes of a stored value: the text to store, and what the update gives.
pub(crate) fn changed<T, R>(
    schema: Option<&Schema>,
    text: Option<&str>,
    change: &mut (dyn FnMut(&mut T) -> R + Send),
) -> Result<(String, R), SchemaError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let mut value: T = text.map_or_else(|| Ok(T::default()), |text| decode(schema, text))?;
    let result = change(&mut value);
    Ok((encode(schema, &value)?, result))
}

fn stepped(step: Option<&Step>, from: u32, value: Value) -> Result<Value, SchemaError> {
    let step = step.ok_or(SchemaError::Step { from, source: None })?;
    step(value).map_err(|source| SchemaError::Step { from, source: Some(source) })
}

/// Puts the version around a value, unless it is the first.
fn wrapped(version: u32, json: String) -> String {
    if version == FIRST && !json.starts_with(OPENING) {
        return json;
    }
    Value::from(format!("{HEAD}{version} {json}")).to_string()
}

/// Takes the version off a stored value.
fn unwrapped(text: &str) -> (u32, Cow<'_, str>) {
    let plain = (FIRST, Cow::Borrowed(text));
    if !text.starts_with(OPENING) {
        return plain;
    }
    let Ok(whole) = serde_json::from_str::<String>(text) else { return plain };
    let parts = whole.strip_prefix(HEAD).and_then(|rest| rest.split_once(' '));
    match parts.map(|(version, json)| (version.parse::<u32>(), json)) {
        Some((Ok(version), json)) => (version, Cow::Owned(json.to_owned())),
        Some((Err(_), _)) | None => plain,
    }
}
