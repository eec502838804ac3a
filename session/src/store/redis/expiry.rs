//! The sweep: first what may be over is listed, then one script looks at each and ends it.
//!
//! Two steps, because a script must name its keys beforehand. Between them anything may happen; so the second looks again.

use std::time::Duration;

use understudy_runtime::ids::Bucket;
use understudy_runtime::redis::Reply;

use super::register::in_list_of_ids;
use super::{
    ACKNOWLEDGE, DUE, RedisStore, SWEEP, TELL_OF, as_text, fields, int, ms, number, tag, text,
    unexpected,
};
use crate::record::{Locator, Record};
use crate::store::{EndReason, Expired, StoreError, Swept};

/// Most that one script looks at: the server does nothing else meanwhile, for some 5 microseconds each.
const AT_ONCE: u32 = 128;

impl RedisStore {
    pub(super) async fn sweep_bucket(
        &self,
        bucket: Bucket,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        let limit = limit.clamp(1, AT_ONCE);
        let index = self.keys.session_expiry(bucket);
        let due = self.call(&DUE, vec![index.clone()], vec![number(limit.into())]).await?;
        let due: Vec<String> = due.iter().filter_map(as_text).collect();
        if due.is_empty() {
            return Ok(Swept::default());
        }
        let more = due.len() >= limit as usize;
        let mut keys = vec![index, self.keys.lease_table(bucket), self.keys.session_named(bucket)];
        keys.extend([self.keys.session_ids(bucket), self.keys.seen_guests(bucket)]);
        let mut members = Vec::with_capacity(2 * due.len());
        for member in &due {
            let told = member.strip_prefix(['!', '?']);
            if told.is_none() {
                keys.push(self.keys.session(bucket, member));
            }
            let locator = told.map_or(member.as_str(), locator_of);
            keys.push(self.keys.session_remains(bucket, locator));
            // What is no locator names no session either; the script finds that out.
            let locator = told.map_or_else(|| member.parse::<Locator>().ok(), |_| None);
            members.push(text(member));
            members.push(text(&locator.map_or_else(String::new, in_list_of_ids)));
        }
        if self.notes_unsaved {
            keys.push(self.keys.unsaved_sessions(bucket));
        }
        // Of what nobody is to be told nothing is kept.
        let keep = hold.map_or_else(|| text(""), |_| self.keep_remains());
        let hold = hold.map_or_else(|| text(""), |hold| number(ms(hold)));
        let mut args = vec![number(self.slack_ms), number(ms(self.lease)), hold, keep];
        args.extend(members);
        let reply = self.call(&SWEEP, keys, args).await?;
        match tag(&reply)? {
            "GRACE" => Ok(Swept::default()),
            "OK" => {
                let expired = handed_out(&reply[1..])?;
                self.take_swept_off_rolls(&expired).await;
                Ok(Swept { expired, more })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Takes what was swept off the rolls of its users, which lie in other slots. What is left there when that fails is struck
    /// off by whoever looks next, and ends with the roll.
    async fn take_swept_off_rolls(&self, expired: &[Expired]) {
        let expired = expired.iter().filter(|expired| !expired.again);
        let named = expired.filter_map(|it| it.user.clone().map(|user| (user, it.locator)));
        self.take_off_rolls(&named.collect::<Vec<_>>()).await;
    }

    /// Keeps what there is to tell of a session that ends, and that only the database has.
    pub(in crate::store) async fn tell_of(
        &self,
        locator: Locator,
        record: &Record,
        reason: EndReason,
    ) -> Result<(), StoreError> {
        let index = self.keys.session_expiry(self.keys.bucket_of(locator.as_bytes()));
        let user = record.user.as_ref().map_or_else(String::new, |user| format!("={user}"));
        // Without the slack: the database may have a later access than Redis swept it by.
        let used_until = record.last_access_ms.saturating_add(record.idle_ms);
        let mut args = vec![
            text(&locator.to_string()),
            text(reason.as_str()),
            number(record.created_ms),
            text(&user),
            self.keep_remains(),
            number(used_until.min(record.absolute_ms)),
        ];
        fields::left(record, &mut args);
        let keys = vec![index, self.remains_key(locator)];
        self.change(&TELL_OF, keys, args).await.map(|_| ())
    }

    pub(super) async fn forget_told(&self, expired: &Expired) -> Result<(), StoreError> {
        let index = self.keys.session_expiry(self.keys.bucket_of(expired.locator.as_bytes()));
        let member = text(&format!("!{}", write(expired)));
        let keys = vec![index, self.remains_key(expired.locator)];
        self.call(&ACKNOWLEDGE, keys, vec![member]).await.map(|_| ())
    }
}

fn handed_out(reply: &[Reply]) -> Result<Vec<Expired>, StoreError> {
    let (pairs, rest) = reply.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(unexpected("an entry without its number"));
    }
    // An entry that cannot be read would stand in the way of all others: it is left, and comes again.
    let read = pairs.iter().map(|pair| {
        let text = as_text(&pair[0]).ok_or_else(|| unexpected("an entry that is no text"))?;
        Ok(read(&text, int(pair, 1)? == 1))
    });
    read.filter_map(Result::transpose).collect()
}

/// Writes an entry as `entry.lua` does, to the letter.
fn write(expired: &Expired) -> String {
    let Expired { locator, user, reason, created_ms, ended_ms, again: _ } = expired;
    let created = created_ms.map_or_else(String::new, |at| at.to_string());
    let user = user.as_ref().map_or_else(String::new, |user| format!("={user}"));
    format!("{locator}|{}|{created}|{ended_ms}|{user}", reason.as_str())
}

/// The session that an entry is about.
fn locator_of(entry: &str) -> &str {
    entry.split_once('|').map_or(entry, |(locator, _)| locator)
}

fn read(entry: &str, again: bool) -> Option<Expired> {
    let mut parts = entry.splitn(5, '|');
    let mut part = || parts.next();
    let locator: Locator = part()?.parse().ok()?;
    let reason = EndReason::from_text(part()?)?;
    let created_ms = Some(part()?).filter(|text| !text.is_empty()).map(str::parse).transpose();
    let ended_ms = part()?.parse().ok()?;
    let user = part()?.strip_prefix('=').map(str::to_owned);
    Some(Expired { locator, user, reason, created_ms: created_ms.ok()?, ended_ms, again })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_as_it_was_read() {
        let locator = Locator::from_bytes([7; 16]);
        for rest in [
            "idle|12|34|",
            "absolute|1|2|=",
            "idle|1|2|=a|b=c\u{e9}",
            "vanished||99|",
            "logout|1|2|=zoe",
            "ended||2|",
        ] {
            let entry = format!("{locator}|{rest}");
            let expired = read(&entry, true).unwrap();
            assert_eq!(
                (write(&expired), locator_of(&entry)),
                (entry.clone(), &*locator.to_string())
            );
            assert_eq!(expired.user.is_some(), rest.contains('='));
        }
        assert_eq!(read("no locator|idle|1|2|", false), None);
        assert_eq!(read(&format!("{locator}|idle|1"), false), None);
    }
}
