//! A write as MessagePack: what many writes change is one argument of one command, which the server takes apart in C.
//!
//! As arguments of their own, the dozen fields of each write cost the client and the server more than the write itself:
//! each is copied, framed, parsed and kept as an object. The layout is told in `write.lua`, the only reader; nothing of
//! this is stored.

use rmp::encode::buffer::ByteBuf;
use rmp::encode::{RmpWrite as _, ValueWriteError, write_array_len, write_str, write_str_len};

use super::fields::{ATTRIBUTE, KEY, format_of, recent_text};
use crate::record::Change;
use crate::store::Write;

/// A write in the form of the script.
pub(super) fn write(write: &Write<'_>) -> Vec<u8> {
    let mut packer = Packer(ByteBuf::with_capacity(256));
    packer.write(write).expect("memory takes whatever is written to it");
    packer.0.into_vec()
}

/// Many of them.
pub(super) fn list<'a>(writes: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut packer = Packer(ByteBuf::with_capacity(writes.len() * 256));
    packer.array(writes.len()).expect("memory takes whatever is written to it");
    let mut all = packer.0.into_vec();
    writes.for_each(|write| all.extend_from_slice(write));
    all
}

type Packed = Result<(), ValueWriteError<core::convert::Infallible>>;

struct Packer(ByteBuf);

impl Packer {
    fn write(&mut self, write: &Write<'_>) -> Packed {
        let Write { fence, base_version, op_id, change, after, .. } = write;
        self.array(9)?;
        self.text(fence.token.as_str())?;
        // Redis keeps numbers as texts, and the script compares them so.
        self.text(&fence.epoch.to_string())?;
        self.text(&base_version.to_string())?;
        self.text(&base_version.saturating_add(1).to_string())?;
        self.text(&op_id.to_text())?;
        self.text(&after.idle_ms.to_string())?;
        self.text(&after.absolute_ms.to_string())?;
        self.set(change)?;
        self.removed(change)
    }

    /// Names and values of the fields to set.
    fn set(&mut self, change: &Change) -> Packed {
        let mut fields: Vec<(&'static str, String)> = Vec::new();
        // Deadlines first, because the script looks there whether they change.
        fields.extend(change.absolute_ms.map(|at| ("x", at.to_string())));
        fields.extend(change.idle_ms.map(|idle| ("i", idle.to_string())));
        fields.extend(change.user.iter().flatten().map(|user| ("u", user.to_string())));
        fields.extend(change.secret.map(|secret| ("h0", secret.to_text())));
        if let Some(Some((hash, until))) = change.previous_secret {
            fields.extend([("h1", hash.to_text()), ("h1x", until.to_string())]);
        }
        fields.extend(change.recent.as_ref().map(|recent| ("w", recent_text(recent))));
        fields.extend(change.marks.iter().map(|(mark, text)| (mark.field(), text.clone())));
        if let Some(seal) = &change.seal {
            fields.push(("sv", format_of(seal).to_string()));
            fields.extend(seal.key().map(|key| (KEY, key.to_string())));
        }
        self.array(2 * (fields.len() + change.set.len()))?;
        for (name, value) in fields {
            self.text(name)?;
            self.text(&value)?;
        }
        for (name, value) in &change.set {
            self.attribute(name)?;
            self.text(value)?;
        }
        Ok(())
    }

    /// Names of the fields to remove.
    fn removed(&mut self, change: &Change) -> Packed {
        let user: &[&str] = if change.user == Some(None) { &["u"] } else { &[] };
        let secret: &[&str] =
            if change.previous_secret == Some(None) { &["h1", "h1x"] } else { &[] };
        let opened = change.seal.as_ref().is_some_and(|seal| seal.key().is_none());
        let key: &[&str] = if opened { &[KEY] } else { &[] };
        self.array(user.len() + secret.len() + key.len() + change.remove.len())?;
        user.iter().chain(secret).chain(key).try_for_each(|name| self.text(name))?;
        change.remove.iter().try_for_each(|name| self.attribute(name))
    }

    fn attribute(&mut self, name: &str) -> Packed {
        write_str_len(&mut self.0, length(ATTRIBUTE.len() + name.len()))?;
        self.bytes(ATTRIBUTE)?;
        self.bytes(name)
    }

    fn bytes(&mut self, text: &str) -> Packed {
        self.0.write_bytes(text.as_bytes()).map_err(ValueWriteError::InvalidDataWrite)
    }

    fn text(&mut self, text: &str) -> Packed {
        write_str(&mut self.0, text)
    }

    fn array(&mut self, count: usize) -> Packed {
        write_array_len(&mut self.0, length(count)).map(|_marker| ())
    }
}

/// Limits of attribute and session are far below what MessagePack can count.
fn length(length: usize) -> u32 {
    u32::try_from(length).expect("no session has four gigabytes")
}
