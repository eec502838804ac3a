//! A node on its own with a token for each role, and what can be asked of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Answer, Client, Node, NodeSpec};

/// How long anything may take that only must happen.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The roles, the least first.
pub(super) const ROLES: [&str; 4] = ["viewer", "support", "operator", "admin"];

const ADMIN: &str = "the-admin-of-these-tests";

/// A node with an administrator.
pub(super) struct Stage {
    pub(super) node: Node,
    pub(super) admin: Client,
}

/// One operation of the API's own description.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) role: String,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let mut node = NodeSpec::new("alone").env("UNDERSTUDY_ADMIN_TOKEN", ADMIN).start();
        node.ready(LIMIT).await;
        Self { node, admin: Client::new().bearing(ADMIN) }
    }

    pub(super) fn url(&self) -> &str {
        self.node.admin_url()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.admin.get(self.url(), path).await.expect("an answer")
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.admin.post_json(self.url(), path, &body).await.expect("an answer")
    }

    /// Makes a token of a role; gives its id and it.
    pub(super) async fn token(&self, role: &str) -> (String, String) {
        let body = json!({ "name": format!("a {role}"), "role": role });
        let made: Value = self.post("/v1/tokens", body).await.expect(201).json();
        let text = |member: &str| made[member].as_str().expect("it is a text").to_owned();
        (text("id"), text("token"))
    }

    /// Everything that the node says can be asked of it.
    pub(super) async fn operations(&self) -> Vec<Operation> {
        let document: Value = self.get("/v1/openapi.json").await.expect(200).json();
        let paths = document["paths"].as_object().expect("it has paths");
        let mut operations = Vec::new();
        for (path, methods) in paths {
            for (method, described) in methods.as_object().expect("methods") {
                let text = |member: &str| described[member].as_str().expect("a text").to_owned();
                let method = method.to_uppercase().parse().expect("a method");
                let (id, role) = (text("operationId"), text("x-role"));
                operations.push(Operation { id, method, path: path.clone(), role });
            }
        }
        operations
    }
}

impl Operation {
    /// Its path, with names of what is not there.
    pub(super) fn of_nobody(&self) -> String {
        let segment = |segment: &str| match segment.starts_with('{') {
            true => "0000000000nobody".to_owned(),
            false => segment.to_owned(),
        };
        self.path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }
}
