//! What can be kept in a session.

use std::sync::Arc;

use super::bench::{Bench, LONG, blank, node, set};
use crate::record::{Attributes, Change, Record};

pub(super) async fn no_attribute_and_a_thousand(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    assert!(owned.record.attributes.is_empty());
    let names: Vec<Arc<str>> = (0..1_000).map(|i| format!("name {i}").into()).collect();
    let values = names.iter().map(|name| (Arc::clone(name), Arc::from(format!("\"{name}\""))));
    bench.written(&mut owned, &Change { set: values.collect(), ..Change::default() }).await;
    let stored = bench.found(owned.locator).await;
    assert_eq!(stored.attributes.len(), 1_000);
    assert_eq!(stored, owned.record);
    let claimed = bench.claimed(owned.locator, &node("b")).await;
    assert_eq!(claimed.record.attributes, owned.record.attributes);
    let mut owned = claimed;
    bench.written(&mut owned, &Change { remove: names, ..Change::default() }).await;
    assert!(bench.found(owned.locator).await.attributes.is_empty());
}

pub(super) async fn an_attribute_of_64_kibibytes(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let text = format!("\"{}\"", "ü".repeat(32 * 1_024 - 1));
    assert_eq!(text.len(), 64 * 1_024);
    bench.written(&mut owned, &set("large", &text)).await;
    assert_eq!(bench.found(owned.locator).await, owned.record);
}

pub(super) async fn names_may_be_any_text(bench: &Bench<'_>) {
    let names =
        ["", " ", "a:b", "o", "e", "v", "st", "a", "\"'`", "{x}", "日本語", "🦀", "\u{0}\n"];
    let texts = names.map(|name| (Arc::from(name), Arc::from("1")));
    let attributes: Attributes = texts.into();
    let record = Record { attributes: Arc::new(attributes.clone()), ..blank(&node("a")) };
    let mut owned = bench.session_like(&record, LONG).await;
    assert_eq!(*owned.record.attributes, attributes);
    for name in names {
        bench.written(&mut owned, &set(name, "2")).await;
    }
    let stored = bench.found(owned.locator).await;
    assert!(stored.attributes.values().all(|value| **value == *"2"), "{:?}", stored.attributes);
    assert_eq!(stored.attributes.len(), names.len());
    let remove = names.map(Arc::from).to_vec();
    bench.written(&mut owned, &Change { remove, ..Change::default() }).await;
    assert_eq!(bench.found(owned.locator).await, owned.record);
}

/// JSON that means the same is not the same: values are compared and stored as text.
pub(super) async fn values_are_kept_to_the_letter(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let values = ["1.50", "1e2", "{ \"b\":1,\"a\":2 }", "\"\\u00e9\\u0000\"", "[1,\n2]", "null"];
    let numbered =
        (0..).zip(values).map(|(i, value): (i32, _)| (Arc::from(i.to_string()), Arc::from(value)));
    let change = Change { set: numbered.collect(), ..Change::default() };
    bench.written(&mut owned, &change).await;
    let stored = bench.found(owned.locator).await;
    let texts: Vec<&str> = stored.attributes.values().map(AsRef::as_ref).collect();
    assert_eq!(texts, values);
}
