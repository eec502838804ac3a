//! All pages of a list, one request after the other. Only one page is in memory at a time.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::call::Caller;
use super::client::Request;
use super::failure::Failure;
use super::verb::Verb;

/// The largest page that a node gives.
const PAGE: &str = "1000";

/// Prints all pages; as JSON they are one document, in which `next` is `null`.
pub(super) async fn all(
    verb: &Verb,
    mut request: Request,
    caller: &mut Caller,
) -> Result<u8, Failure> {
    let cursor = verb.cursor().expect("a list with pages has a cursor");
    request.query.entry("limit").or_insert_with(|| PAGE.to_owned());
    let mut pages = 0_u64;
    loop {
        let bytes = caller.client.send(&request).await?.bytes().await?;
        let next = if caller.json {
            elements(verb, &bytes, pages == 0, caller)?
        } else {
            let answer = serde_json::from_slice(&bytes).map_err(|_| not_a_list(caller))?;
            // What is said of an empty list would be wrong below a full one.
            if pages == 0 || answer_has_some(&answer, verb) {
                caller.terminal.page(|paper| verb.view.render(&answer, paper))?;
            }
            answer["next"].clone()
        };
        pages += 1;
        if next.is_null() {
            break;
        }
        let next = super::show::plain(&next);
        if request.query.insert(cursor, next.clone()) == Some(next) {
            return Err(caller.client.stranger("its next page is the same page"));
        }
    }
    if caller.json {
        caller.terminal.write(b"],\"next\":null}\n")?;
    }
    caller.terminal.flush()?;
    Ok(0)
}

fn answer_has_some(answer: &Value, verb: &Verb) -> bool {
    answer[verb.pages].as_array().is_some_and(|list| !list.is_empty())
}

/// Writes the elements of one page as they came; gives where the next one begins.
fn elements(
    verb: &Verb,
    bytes: &[u8],
    is_first: bool,
    caller: &mut Caller,
) -> Result<Value, Failure> {
    let page: BTreeMap<String, &RawValue> =
        serde_json::from_slice(bytes).map_err(|_| not_a_list(caller))?;
    let list = page.get(verb.pages).ok_or_else(|| not_a_list(caller))?;
    let list: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(|_| not_a_list(caller))?;
    let next = page.get("next").map_or("null", |next| next.get());
    let next = serde_json::from_str(next).map_err(|_| not_a_list(caller))?;
    if is_first {
        caller.terminal.write(format!("{{\"{}\":[", verb.pages).as_bytes())?;
    }
    for (number, element) in list.iter().enumerate() {
        if number > 0 || !is_first {
            caller.terminal.write(b",\n")?;
        }
        caller.terminal.pass_on(element.get().as_bytes())?;
    }
    Ok(next)
}

fn not_a_list(caller: &Caller) -> Failure {
    caller.client.stranger("it did not answer with a list")
}
