//! The fields of a session's hash, and back.
//!
//! `o` owner token, `e` epoch, `v` version, `q` id of the latest write, `st` tombstone, `c` created, `x` absolute
//! deadline, `la` latest access, `i` idle, `u` user, `h0` hash of the secret, `h1` and `h1x` the one before and its end,
//! `w` recent operations of other nodes, `sv` format of the record, `k` name of the key under which attributes and recent
//! operations are sealed, with `+z` where attributes may be packed, `a:<name>` attributes, and the [marks]: `au` when the user last
//! showed who they are, `cl` whether the cookie lasts, `pa` whose child it is, `sc` the scope of what hangs on it. Those, and fields
//! of any other name, are kept as they are; a record of a newer format is left alone.
//!
//! [marks]: crate::record::Mark

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use understudy_runtime::redis::{Arg, Reply};

use crate::record::{Attributes, KeyId, OpId, Record, Seal, SecretHash, Token};
use crate::store::{Remains, StoreError};

/// The format of records; also in `claim.lua`, `look.lua` and `sweep.lua`. It grows when an older program would misread a
/// record, not when a field is added that it may keep without knowing.
const FORMAT: u32 = 1;
/// The format of records whose contents are sealed or packed, and the newest that this program reads.
const SEALED: u32 = 2;

/// The field that names the key.
pub(super) const KEY: &str = "k";

/// What the names of attributes' fields begin with.
pub(super) const ATTRIBUTE: &str = "a:";

/// The field that marks a session as ended.
pub(super) const TOMBSTONE: &str = "st";

/// Whose clock says when a session began and was last used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// The store sets them.
    Stores,
    /// They are in the record.
    Own,
}

/// Adds every field of a record: name, value, name, value, ...
pub(super) fn all(record: &Record, times: Times, args: &mut Vec<Arg>) {
    let mut put = |name: &str, value: String| args.extend([Arg::from(name), Arg::from(value)]);
    put("o", record.owner.as_ref().map_or_else(String::new, |owner| owner.as_str().to_owned()));
    put("e", record.epoch.to_string());
    put("v", record.version.to_string());
    put("i", record.idle_ms.to_string());
    put("sv", format_of(&record.seal).to_string());
    if let Some(key) = record.seal.key() {
        put(KEY, key.to_string());
    }
    put("h0", record.secret.to_text());
    if times == Times::Own {
        put("c", record.created_ms.to_string());
        put("x", record.absolute_ms.to_string());
        put("la", record.last_access_ms.to_string());
    }
    if let Some(op) = record.last_op {
        put("q", op.to_text());
    }
    if let Some(user) = &record.user {
        put("u", user.to_string());
    }
    if let Some((hash, until)) = record.previous_secret {
        put("h1", hash.to_text());
        put("h1x", until.to_string());
    }
    let recent = &record.recent;
    if !recent.entries.is_empty() || recent.sealed.is_some() || recent.since_version > 0 {
        put("w", recent_text(recent));
    }
    for (name, value) in &record.unknown {
        put(name, value.clone());
    }
    for (name, value) in record.attributes.iter() {
        put(&format!("{ATTRIBUTE}{name}"), value.to_string());
    }
}

/// Adds the fields of what is left of a session when it is over.
pub(super) fn left(record: &Record, args: &mut Vec<Arg>) {
    let mut put = |name: &str, value: String| args.extend([Arg::from(name), Arg::from(value)]);
    put("sv", format_of(&record.seal).to_string());
    if let Some(key) = record.seal.key() {
        put(KEY, key.to_string());
    }
    for (name, value) in record.attributes.iter() {
        put(&format!("{ATTRIBUTE}{name}"), value.to_string());
    }
}

/// Gives the format of a record with such contents.
pub(super) fn format_of(seal: &Seal) -> u32 {
    if seal.key().is_some() { SEALED } else { FORMAT }
}

/// Writes the list of recent operations as its field has it.
pub(super) fn recent_text(recent: &crate::record::RecentOps) -> String {
    serde_json::to_string(recent).expect("numbers and short texts always serialise")
}

/// Reads the fields that a script returned: name, value, name, value, ...
pub(super) fn read(reply: Reply) -> Result<Record, StoreError> {
    let unreadable = || StoreError::Unreadable("fields".to_owned());
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other kind of reply has fields")]
    let pairs: Vec<(String, String)> = match reply {
        Reply::Array(items) => {
            let mut texts = items.into_iter().map(Reply::into_string);
            let mut pairs = Vec::new();
            while let Some(name) = texts.next() {
                let value = texts.next().flatten();
                pairs.push((name.ok_or_else(unreadable)?, value.ok_or_else(unreadable)?));
            }
            pairs
        }
        Reply::Map(map) => map
            .inner()
            .into_iter()
            .map(|(name, value)| Some((name.into_string()?, value.into_string()?)))
            .collect::<Option<_>>()
            .ok_or_else(unreadable)?,
        _other => return Err(unreadable()),
    };
    record(pairs.into_iter())
}

/// Reads what is left of a session that is over.
pub(super) fn remains(
    fields: impl Iterator<Item = (String, String)>,
) -> Result<Remains, StoreError> {
    let (attributes, mut known) = parted(fields);
    Ok(Remains { attributes: Arc::new(attributes), seal: seal(&mut known)? })
}

/// Parts attributes from what else there is.
fn parted(
    fields: impl Iterator<Item = (String, String)>,
) -> (Attributes, BTreeMap<String, String>) {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut attributes = Attributes::new();
    for (name, value) in fields {
        match name.strip_prefix(ATTRIBUTE) {
            Some(attribute) => drop(attributes.insert(attribute.into(), value.into())),
            None => drop(known.insert(name, value)),
        }
    }
    (attributes, known)
}

/// Takes out which form the contents have.
fn seal(known: &mut BTreeMap<String, String>) -> Result<Seal, StoreError> {
    let format = known.remove("sv").map_or(Ok(FORMAT), |format| parsed("sv", Some(format)))?;
    if format > SEALED {
        return Err(StoreError::Unreadable(format!("format {format} of a newer program")));
    }
    match known.remove(KEY).map(|key| KeyId::new(&key)) {
        None if format != SEALED => Ok(Seal::Open),
        Some(Some(key)) if format == SEALED => Ok(Seal::Under(key)),
        None | Some(_) => Err(field(KEY)),
    }
}

/// Reads a record from its fields.
pub(super) fn record(fields: impl Iterator<Item = (String, String)>) -> Result<Record, StoreError> {
    let (attributes, mut known) = parted(fields);
    let seal = seal(&mut known)?;
    let mut take = |name: &'static str| known.remove(name);
    let owner = take("o").filter(|owner| !owner.is_empty()).map(|owner| Token::from_text(&owner));
    let epoch = parsed("e", take("e"))?;
    let version = parsed("v", take("v"))?;
    let last_op = take("q")
        .map(|op| u64::from_str_radix(&op, 16))
        .transpose()
        .map_err(|_| field("q"))?
        .map(OpId);
    let created_ms = parsed("c", take("c"))?;
    let absolute_ms = parsed("x", take("x"))?;
    let last_access_ms = parsed("la", take("la"))?;
    let idle_ms = parsed("i", take("i"))?;
    let user = take("u").map(Arc::from);
    let secret =
        take("h0").as_deref().and_then(SecretHash::from_text).ok_or_else(|| field("h0"))?;
    let previous_secret = match (take("h1"), take("h1x")) {
        (Some(hash), until @ Some(_)) => {
            Some((SecretHash::from_text(&hash).ok_or_else(|| field("h1"))?, parsed("h1x", until)?))
        }
        (_, _) => None,
    };
    let recent =
        take("w").map(|text| serde_json::from_str(&text)).transpose().map_err(|_| field("w"))?;
    Ok(Record {
        owner,
        epoch,
        version,
        last_op,
        created_ms,
        absolute_ms,
        last_access_ms,
        idle_ms,
        user,
        secret,
        previous_secret,
        attributes: Arc::new(attributes),
        recent: recent.unwrap_or_default(),
        unknown: known,
        seal,
    })
}

fn parsed<T: FromStr>(name: &'static str, value: Option<String>) -> Result<T, StoreError> {
    value.and_then(|value| value.parse().ok()).ok_or_else(|| field(name))
}

/// Names the field only: what is in it may be anything, also a secret.
fn field(name: &'static str) -> StoreError {
    StoreError::Unreadable(format!("field `{name}`"))
}
