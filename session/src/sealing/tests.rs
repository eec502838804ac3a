//! What is sealed opens in its place and nowhere else.

use understudy_runtime::config::{EncryptionKey, EncryptionWrites};
use understudy_runtime::secret::Secret;

use super::*;

const TEXT: &str = "\"canary ü\"";
const VARIABLE: &str = "UNDERSTUDY_SESSION_ENCRYPTION_KEYS";

/// A ring whose keys are called `ids`; a key's bytes depend on its name.
pub(crate) fn ring(writes: EncryptionWrites, ids: &[&str], cluster: &str) -> SealRing {
    let key = |id: &&str| EncryptionKey {
        id: (*id).to_owned(),
        key: Secret::new(
            [id.bytes().fold(7, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte)); 32],
        ),
    };
    SealRing::new(&EncryptionConfig { keys: ids.iter().map(key).collect(), writes }, cluster)
}

pub(crate) fn sealing(ids: &[&str]) -> SealRing {
    ring(EncryptionWrites::Sealed, ids, "shop")
}

fn sealed(ring: &SealRing, place: Place<'_>) -> String {
    ring.sealer().expect("it seals").seal(place, TEXT)
}

fn is_broken(opened: &Result<String, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Broken))
}

#[test]
fn x6_what_is_sealed_is_opened_again_and_never_looks_the_same() {
    let (ring, place) = (sealing(&["a"]), Place::attribute(Locator::from_bytes([1; 16]), "n"));
    let [first, second] = [sealed(&ring, place), sealed(&ring, place)];
    assert_ne!(first, second, "each has a nonce of its own");
    assert!(first.starts_with("1.a.") && !first.contains("canary"), "{first}");
    for text in [first, second] {
        assert_eq!(ring.open(place, &text).unwrap(), TEXT);
    }
}

#[test]
fn x6_a_value_opens_only_where_it_was_sealed_for() {
    let (ring, locator) = (sealing(&["a"]), Locator::from_bytes([1; 16]));
    let text = sealed(&ring, Place::attribute(locator, "n"));
    let elsewhere = [
        Place::attribute(Locator::from_bytes([2; 16]), "n"),
        Place::attribute(locator, "m"),
        Place::attribute(locator, ""),
        Place::recent(locator),
        Place::event_of_session(locator),
        Place::event_of_user("n"),
    ];
    for place in elsewhere {
        assert!(is_broken(&ring.open(place, &text)));
    }
    let event = sealed(&ring, Place::event_of_user("n"));
    assert_eq!(ring.open(Place::event_of_user("n"), &event).unwrap(), TEXT);
    for place in [Place::event_of_user("m"), Place::event_of_session(locator)] {
        assert!(is_broken(&ring.open(place, &event)));
    }
    let other = self::ring(EncryptionWrites::Sealed, &["a"], "other");
    assert!(is_broken(&other.open(Place::attribute(locator, "n"), &text)));
}

#[test]
fn x6_what_was_tampered_with_does_not_open() {
    let (ring, place) = (sealing(&["a"]), Place::recent(Locator::from_bytes([1; 16])));
    let text = sealed(&ring, place);
    for at in 4..text.len() {
        let with = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut changed = text.clone();
        changed.replace_range(at..=at, with);
        assert!(is_broken(&ring.open(place, &changed)), "{changed}");
    }
    for bad in
        ["", "1.", "1.a", "1.a.", "1.a.AAAA", "2.a.AAAA", "\"plain\"", "1. .AAAA", &text[1..]]
    {
        assert!(is_broken(&ring.open(place, bad)), "{bad}");
    }
}

#[test]
fn x6_the_first_key_seals_and_all_open() {
    let place = Place::attribute(Locator::from_bytes([1; 16]), "n");
    let (before, after) = (sealing(&["old", "new"]), sealing(&["new", "old"]));
    for (one, other) in [(&before, &after), (&after, &before)] {
        assert_eq!(other.open(place, &sealed(one, place)).unwrap(), TEXT);
    }
    assert_eq!(after.form(), Seal::Under(KeyId::new("new").unwrap()));
    let error = sealing(&["new"]).open(place, &sealed(&before, place)).unwrap_err().to_string();
    assert!(error.contains("`old`") && error.contains(VARIABLE), "{error}");
}

#[test]
fn x6_switched_off_it_seals_nothing_and_opens_what_it_has_keys_for() {
    let place = Place::attribute(Locator::from_bytes([1; 16]), "n");
    let off = ring(EncryptionWrites::Plain, &["a"], "shop");
    assert!(off.sealer().is_none());
    assert_eq!(off.form(), Seal::Open);
    assert_eq!(off.open(place, &sealed(&sealing(&["a"]), place)).unwrap(), TEXT);
    let none = ring(EncryptionWrites::Sealed, &[], "shop");
    assert!(none.sealer().is_none());
    assert_eq!(none.known().ids(), [KeyId::packed(None)], "what is packed needs no key");
}

#[test]
fn x6_another_key_of_the_same_name_opens_nothing_and_nothing_is_shown() {
    let place = Place::attribute(Locator::from_bytes([1; 16]), "n");
    let text = sealed(&sealing(&["a"]), place);
    let key = EncryptionKey { id: "a".to_owned(), key: Secret::new([255; 32]) };
    let config = EncryptionConfig { keys: vec![key], writes: EncryptionWrites::Sealed };
    let other = SealRing::new(&config, "shop");
    let error = other.open(place, &text).unwrap_err().to_string();
    assert!(error.contains(VARIABLE) && !error.contains(&text[4..]), "{error}");
    assert!(!format!("{other:?}").contains("255"), "{other:?}");
}
