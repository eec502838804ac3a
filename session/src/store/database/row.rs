//! A record as the columns of a row, both ways.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sea_orm::{QueryResult, TryGetable, Value};
use serde_json::value::RawValue;

use crate::record::{Attributes, KeyId, OpId, Record, Seal, SecretHash, Token};
use crate::store::{Remains, StoreError};

/// The columns that make a record, and the mark of a tombstone.
pub(super) const COLUMNS: &str = "owner, epoch, version, last_op, revoked_until_ms, created_ms, absolute_ms, \
     last_access_ms, idle_ms, user_name, secret, previous_secret, previous_until_ms, attributes, recent, unknown, \
     seal";

/// Longest time the table can add up: later deadlines are brought down to it (some 36 million years).
const END_OF_TIME_MS: u64 = 1 << 60;

/// Gives a number as a column keeps it.
pub(super) fn number(value: u64) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

/// Gives a time or a span of time as a column keeps it.
pub(super) fn time(value_ms: u64) -> Value {
    number(value_ms.min(END_OF_TIME_MS))
}

/// Gives the owner as the columns `owner` and `owner_node` keep it.
pub(super) fn owner(token: Option<&Token>) -> [Value; 2] {
    let node = token.and_then(Token::node).map(|node| node.to_string());
    [token.map(|token| token.as_str().to_owned()).into(), node.into()]
}

/// Gives the secret before the latest rotation as `previous_secret` and `previous_until_ms` keep it.
pub(super) fn previous(secret: Option<(SecretHash, u64)>) -> [Value; 2] {
    let (text, until) = secret.map(|(hash, until)| (hash.to_text(), until)).unzip();
    let until = until.map(|until| i64::try_from(until.min(END_OF_TIME_MS)).unwrap_or(i64::MAX));
    [text.into(), until.into()]
}

/// Gives attributes as one JSON object. Values go in as they are, so they come back as they were. Around sealed ones is an
/// array, so that no program that cannot open them takes them for values.
pub(super) fn attributes(attributes: &Attributes, seal: &Seal) -> Result<Value, StoreError> {
    let [open, close] = if seal.key().is_some() { ["[{", "}]"] } else { ["{", "}"] };
    let mut text = String::from(open);
    for (name, value) in attributes {
        // What is no JSON would make the whole record unreadable.
        serde_json::from_str::<&RawValue>(value)
            .map_err(|error| StoreError::Refused(format!("attribute {name:?}: {error}")))?;
        let comma = if text.len() > open.len() { "," } else { "" };
        let written = write!(text, "{comma}{}:{value}", json(&**name)?);
        written.map_err(|error| StoreError::Refused(error.to_string()))?;
    }
    text.push_str(close);
    Ok(text.into())
}

/// Gives the name of the key as `seal` keeps it.
pub(super) fn key(seal: &Seal) -> Value {
    seal.key().map(ToString::to_string).into()
}

/// Gives anything as JSON text.
pub(super) fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Refused(error.to_string()))
}

/// Says whether the row is a tombstone.
pub(super) fn is_revoked(row: &QueryResult) -> Result<bool, StoreError> {
    Ok(get::<Option<i64>>(row, "revoked_until_ms")?.is_some())
}

/// Reads the owner of a row.
pub(super) fn read_owner(row: &QueryResult) -> Result<Option<Token>, StoreError> {
    Ok(get::<Option<String>>(row, "owner")?.as_deref().map(Token::from_text))
}

/// Reads the id of the latest write.
pub(super) fn read_last_op(row: &QueryResult) -> Result<Option<OpId>, StoreError> {
    get::<Option<String>>(row, "last_op")?
        .map(|text| u64::from_str_radix(&text, 16).map(OpId))
        .transpose()
        .map_err(|error| unreadable("last_op", error))
}

/// Reads a number that cannot be negative.
pub(super) fn read_number(row: &QueryResult, column: &str) -> Result<u64, StoreError> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|_| unreadable(column, "a negative number"))
}

/// Reads the record of a row that is no tombstone.
pub(super) fn read_record(row: &QueryResult) -> Result<Record, StoreError> {
    let text = |column: &str| get::<String>(row, column);
    let secret = |column: &str, text: &str| {
        SecretHash::from_text(text).ok_or_else(|| unreadable(column, "not a hash"))
    };
    let previous_secret = match get::<Option<String>>(row, "previous_secret")? {
        None => None,
        Some(text) => {
            Some((secret("previous_secret", &text)?, read_number(row, "previous_until_ms")?))
        }
    };
    let seal = read_seal(row)?;
    Ok(Record {
        owner: read_owner(row)?,
        epoch: read_number(row, "epoch")?,
        version: read_number(row, "version")?,
        last_op: read_last_op(row)?,
        created_ms: read_number(row, "created_ms")?,
        absolute_ms: read_number(row, "absolute_ms")?,
        last_access_ms: read_number(row, "last_access_ms")?,
        idle_ms: read_number(row, "idle_ms")?,
        user: get::<Option<String>>(row, "user_name")?.map(Arc::from),
        secret: secret("secret", &text("secret")?)?,
        previous_secret,
        attributes: Arc::new(read_attributes(&text("attributes")?, &seal)?),
        recent: serde_json::from_str(&text("recent")?).map_err(|e| unreadable("recent", e))?,
        unknown: serde_json::from_str(&text("unknown")?).map_err(|e| unreadable("unknown", e))?,
        seal,
    })
}

/// Reads what is left of a session that is over.
pub(super) fn read_remains(row: &QueryResult) -> Result<Remains, StoreError> {
    let seal = read_seal(row)?;
    let attributes = read_attributes(&get::<String>(row, "attributes")?, &seal)?;
    Ok(Remains { attributes: Arc::new(attributes), seal })
}

fn read_seal(row: &QueryResult) -> Result<Seal, StoreError> {
    let Some(key) = get::<Option<String>>(row, "seal")? else { return Ok(Seal::Open) };
    let key = KeyId::new(&key).ok_or_else(|| unreadable("seal", "no name of a key"))?;
    Ok(Seal::Under(key))
}

fn read_attributes(text: &str, seal: &Seal) -> Result<Attributes, StoreError> {
    type Raw<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;
    let raw = if seal.key().is_some() {
        serde_json::from_str::<[Raw<'_>; 1]>(text).map(|[raw]| raw)
    } else {
        serde_json::from_str::<Raw<'_>>(text)
    };
    let raw = raw.map_err(|error| unreadable("attributes", error))?;
    Ok(raw.into_iter().map(|(name, value)| (name.into(), value.get().into())).collect())
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, StoreError> {
    row.try_get("", column).map_err(|error| unreadable(column, error))
}

/// Reads a text.
pub(super) fn text(row: &QueryResult, column: &str) -> Result<String, StoreError> {
    get(row, column)
}

/// Reads a text that may be missing.
pub(super) fn optional_text(row: &QueryResult, column: &str) -> Result<Option<String>, StoreError> {
    get(row, column)
}

pub(super) fn unreadable(column: &str, what: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(format!("column {column}: {what}"))
}
