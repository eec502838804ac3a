//! Values of several versions, read and written by releases that know more or fewer of them.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::*;

/// What the third release keeps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Cart {
    articles: Vec<String>,
    coupon: Option<String>,
}

/// Version 1 is text with commas, version 2 a list, version 3 a [`Cart`].
fn cart(version: u32) -> Schema {
    let split = |value: Value| -> Result<Value, StepError> {
        let text = value.as_str().ok_or("no text")?;
        Ok(json!(text.split(',').collect::<Vec<&str>>()))
    };
    let join = |value: Value| -> Result<Value, StepError> {
        let list: Vec<String> = serde_json::from_value(value)?;
        Ok(Value::from(list.join(",")))
    };
    let mut schema = Schema::new("cart", version);
    if version > 1 {
        schema = schema.upgrade(1, split).downgrade(2, join);
    }
    if version > 2 {
        schema = schema
            .upgrade(2, |list: Value| Ok(json!({ "articles": list, "coupon": null })))
            .downgrade(3, |cart: Value| Ok(cart["articles"].clone()));
    }
    schema
}

fn three() -> Cart {
    Cart { articles: ["a", "b", "c"].map(str::to_owned).into(), coupon: None }
}

fn written(schema: &Schema, value: &impl Serialize) -> String {
    encode(Some(schema), value).unwrap()
}

#[test]
fn a_value_of_any_older_version_is_brought_to_the_latest() {
    let latest = cart(3);
    let stored = [
        "\"a,b,c\"".to_owned(),
        written(&cart(2), &three().articles),
        written(&latest, &three()),
        written(&latest.clone().writing(1), &three()),
        written(&latest.clone().writing(2), &three()),
    ];
    assert_eq!(stored.each_ref().map(|text| version_of(text)), [1, 2, 3, 1, 2]);
    for text in &stored {
        assert_eq!(decode::<Cart>(Some(&latest), text).unwrap(), three(), "{text}");
    }
    assert_eq!(stored[0], stored[3], "the first version is stored as it always was");
    assert_eq!(stored[1], stored[4]);
}

#[test]
fn the_release_before_reads_what_the_next_one_writes_for_it() {
    let next = cart(2).writing(1);
    let text = written(&next, &three().articles);
    assert_eq!(decode::<String>(Some(&cart(1)), &text).unwrap(), "a,b,c");
    assert_eq!(decode::<String>(None, &text).unwrap(), "a,b,c", "it needs no schema for that");
    assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "a,b,c", "nor schemas at all");
}

#[test]
fn a_newer_version_is_told_and_not_guessed_at() {
    let text = written(&cart(3), &three());
    for (schema, knows) in [(Some(cart(2)), 2), (Some(cart(1)), 1), (None, 1)] {
        let error = decode::<Value>(schema.as_ref(), &text).unwrap_err();
        let SchemaError::Newer { stored: 3, known } = error else { panic!("{error:?}") };
        assert_eq!(known, knows);
    }
    let error = decode::<Value>(None, &text).unwrap_err().of("cart");
    assert_eq!(error.to_string(), "attribute `cart` has schema 3, and this node knows up to 1");
}

#[test]
fn programs_without_schemas_neither_misread_nor_extend_a_value_with_a_version() {
    let text = written(&cart(3), &three());
    assert!(serde_json::from_str::<Cart>(&text).is_err());
    assert!(serde_json::from_str::<Vec<String>>(&text).is_err());
    assert!(serde_json::from_str::<BTreeMap<String, Value>>(&text).is_err());
    assert!(text.parse::<i64>().is_err());
    #[derive(Debug, Deserialize)]
    struct Lenient {
        #[serde(default)]
        _articles: Vec<String>,
    }
    assert!(serde_json::from_str::<Lenient>(&text).is_err(), "nor as an empty one");
}

#[test]
fn a_text_that_looks_like_a_version_is_not_taken_for_one() {
    for text in ["us:schema/9 {}", "us:schema/", "us:schema/x y", "us:schema/1 1", "us:schema/2"] {
        let stored = encode::<str>(None, text).unwrap();
        assert_eq!(version_of(&stored), 1, "{stored}");
        assert_eq!(decode::<String>(None, &stored).unwrap(), text);
        // By a program that knows nothing of schemas; only one of them has a version in it.
        let as_before = serde_json::to_string(text).unwrap();
        let read = decode::<String>(None, &as_before);
        assert_eq!(read.is_ok(), !["us:schema/9 {}", "us:schema/1 1"].contains(&text), "{text}");
    }
    for other in
        ["\"us:schema", "\"us:schema/3", "", "us:schema/3 1", "\"us:schema/99999999999 1\""]
    {
        assert_eq!((version_of(other), &*unwrapped(other).1), (1, other));
    }
}

#[test]
fn a_step_that_fails_or_is_missing_names_its_version() {
    let error = decode::<Cart>(Some(&cart(3)), "7").unwrap_err();
    let SchemaError::Step { from: 1, source: Some(source) } = &error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "no text");
    let bare = Schema::new("cart", 2);
    let error = decode::<Cart>(Some(&bare), "7").unwrap_err();
    assert!(matches!(error, SchemaError::Step { from: 1, source: None }), "{error:?}");
    let error = encode(Some(&bare.writing(1)), &7).unwrap_err();
    assert!(matches!(error, SchemaError::Step { from: 2, source: None }), "{error:?}");
    let told = decode::<Cart>(Some(&cart(3)), "\"canary\"").unwrap();
    assert_eq!(told.articles, ["canary"]);
    let error = decode::<u8>(Some(&cart(3)), "\"canary\"").unwrap_err().of("cart");
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
}

#[test]
fn schemas_that_cannot_work_are_refused_at_the_start() {
    let wrong = |schemas: &[Schema]| Schemas::new(schemas).unwrap_err();
    assert_eq!(
        wrong(&[Schema::new("cart", 2)]),
        "schema of attribute `cart`: nothing upgrades version 1"
    );
    let one_way = || Schema::new("cart", 2).upgrade(1, Ok);
    assert_eq!(
        wrong(&[one_way().writing(1)]),
        "schema of attribute `cart`: nothing downgrades version 2"
    );
    assert_eq!(wrong(&[one_way(), cart(1)]), "attribute `cart` has two schemas");
    assert!(wrong(&[Schema::new("", 1)]).contains("1 to 256 bytes"));
    let good = Schemas::new(&[one_way(), Schema::new("other", 0).writing(7)]).unwrap();
    assert_eq!(good.of("cart").unwrap().version(), 2);
    assert_eq!(known(good.of("other").as_deref()), 1);
    assert!(good.of("none").is_none());
}

#[test]
fn values_that_are_to_stay_as_they_were_written_do() {
    let list = Schema::new("list", 2).upgrade(1, Ok).downgrade(2, Ok);
    for (schema, text) in [(None, "[1.50, {} ]"), (Some(&list), "\"us:schema/2 [1.50, {} ]\"")] {
        let raw: Box<RawValue> = decode(schema, text).unwrap();
        assert_eq!(raw.get(), "[1.50, {} ]");
        assert_eq!(encode(schema, &raw).unwrap(), text);
    }
    let raw: Vec<Box<RawValue>> = decode(Some(&list), "[1,\"x\"]").unwrap();
    assert_eq!(raw.iter().map(|item| item.get()).collect::<Vec<&str>>(), ["1", "\"x\""]);
}

impl SessionState for Cart {
    const NAME: &'static str = "cart";
    const VERSION: u32 = 3;
    const WRITES: u32 = 2;

    fn upgrade(from: u32, value: Value) -> Result<Value, StepError> {
        stepped(cart(3).up.get(&from), from, value).map_err(|error| format!("{error:?}").into())
    }

    fn downgrade(from: u32, value: Value) -> Result<Value, StepError> {
        stepped(cart(3).down.get(&from), from, value).map_err(|error| format!("{error:?}").into())
    }
}

#[test]
fn the_schema_of_a_state_is_that_of_its_type() {
    let schema = Schema::of::<Cart>();
    assert!(Schemas::new(std::slice::from_ref(&schema)).is_ok());
    let text = written(&schema, &three());
    assert_eq!(text, written(&cart(3).writing(2), &three()));
    assert_eq!(decode::<Cart>(Some(&schema), "\"a,b,c\"").unwrap(), three());
    let mut count = |cart: &mut Cart| cart.articles.len();
    let (text, articles) = changed::<Cart, usize>(Some(&schema), None, &mut count).unwrap();
    assert_eq!((version_of(&text), articles), (2, 0), "an absent one begins as the default");
    let error =
        changed::<Cart, usize>(Some(&schema), Some("\"us:schema/4 {}\""), &mut count).unwrap_err();
    assert!(matches!(error, SchemaError::Newer { stored: 4, known: 3 }), "{error:?}");
}
