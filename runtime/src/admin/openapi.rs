//! The API as an OpenAPI 3.1 document, made from the table of operations: what is not in the one is not in the other.

use actix_web::web;
use serde_json::{Map, Value, json};

use super::AdminPort;
use super::operation::{BodyForm, Operation, Operations, Parameter};
use super::resources::json as answer;

/// Adds the resource.
pub(super) fn configure(app: &mut web::ServiceConfig, port: &AdminPort) {
    let port = port.clone();
    let show = move || std::future::ready(answer(&document(&port.operations())));
    app.route("/v1/openapi.json", web::get().to(show));
}

/// Writes the document.
pub(super) fn document(operations: &Operations) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations.iter() {
        let path = operation.path.replace("*}", "}");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[operation.method.to_lowercase()] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Understudy administration",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators see of and do with a cluster. Errors are problems (RFC 9457) with a stable `code`.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Problem": problem() },
        },
        "security": [{ "token": [] }],
    })
}

fn described(operation: &Operation) -> Value {
    let tag = operation.id.split('.').next().unwrap_or_default();
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag],
        "x-role": operation.role.to_string(),
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    if operation.body_form == BodyForm::Stream {
        let bytes = json!({ "type": "string", "format": "binary" });
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/octet-stream": { "schema": bytes } },
        });
    }
    if !operation.body.is_empty() {
        described["requestBody"] = json!({
            "required": !operation.body_optional,
            "content": { "application/json": { "schema": schema(operation.body) } },
        });
    }
    for (member, name) in [("x-cli", operation.cli), ("x-console", operation.console)] {
        if !name.is_empty() {
            described[member] = name.into();
        }
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let names = operation.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(name.trim_end_matches('*'))
    });
    let in_path = names.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
    });
    let others = |place: &'static str| {
        move |parameter: &Parameter| {
            json!({
                "name": parameter.name,
                "in": place,
                "description": parameter.meaning,
                "schema": schema(parameter.schema),
            })
        }
    };
    let in_query = operation.query.iter().map(others("query"));
    let in_headers = operation.headers.iter().map(others("header"));
    in_path.chain(in_query).chain(in_headers).collect()
}

/// What an operation answers, and what any of them may.
fn responses(operation: &Operation) -> Value {
    let problem = |text: &str| {
        json!({
            "description": text,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        })
    };
    let mut responses = Map::new();
    let good = |text: &str| json!({ "description": text });
    for (status, text) in operation.answers {
        let described = if *status < 400 { good(text) } else { problem(text) };
        responses.insert(status.to_string(), described);
    }
    if !operation.answers.iter().any(|(status, _)| *status < 400) {
        responses.insert("200".to_owned(), good("Done"));
    }
    for (status, text) in ANY {
        responses.entry(status.to_string()).or_insert_with(|| problem(text));
    }
    Value::Object(responses)
}

/// What any operation may answer.
const ANY: &[(u16, &str)] = &[
    (400, "The query, a header or the body is not as expected"),
    (401, "A valid token is needed"),
    (403, "The token does not allow this"),
    (404, "There is no such thing"),
    (413, "The body is too large"),
    (415, "The body is not JSON"),
    (422, "A value in the body cannot be used"),
    (503, "The node is starting, or a store is away; try again"),
];

fn schema(text: &str) -> Value {
    serde_json::from_str(text).expect("a test reads all of them")
}

fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string" },
            "detail": { "type": "string" },
            "instance": { "type": "string" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::OPERATIONS;

    #[test]
    fn every_operation_of_the_runtime_can_be_described() {
        let document = document(&Operations::new([OPERATIONS]));
        for operation in OPERATIONS {
            let path = operation.path.replace("*}", "}");
            let described = &document["paths"][path][operation.method.to_lowercase()];
            assert_eq!(described["operationId"], operation.id);
        }
    }
}
