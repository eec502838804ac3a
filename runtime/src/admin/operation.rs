//! What can be asked of the admin port: one table, from which access, OpenAPI, the audit log and the comparison with
//! command line and console are made.
//!
//! A request that no operation describes is refused, so a resource cannot be reached before somebody has written down
//! who may.

use actix_web::http::Method;

use super::Role;

/// One thing that can be asked of the admin port.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its stable name, `nodes.drain`; the audit log calls it so.
    pub id: &'static str,
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Its path; `{name}` stands for one segment, `{name*}`, at the end only, for the rest.
    pub path: &'static str,
    /// Who may.
    pub role: Role,
    /// What it does, in one sentence without a full stop.
    pub summary: &'static str,
    /// What may stand in the query.
    pub query: &'static [Parameter],
    /// The JSON schema of the body, as text; empty when it takes none.
    pub body: &'static str,
    /// Whether the body may be left out.
    pub body_optional: bool,
    /// How its body is sent.
    pub body_form: BodyForm,
    /// When the audit log has it.
    pub audited: Audited,
    /// Further headers that it looks at.
    pub headers: &'static [Parameter],
    /// Statuses it may answer with, and when; those that any may answer with are left out.
    pub answers: &'static [(u16, &'static str)],
    /// The verb of the command line for it, `node drain`; empty when there is none.
    pub cli: &'static str,
    /// The page of the console that has it, `nodes`; empty when none has.
    pub console: &'static str,
}

/// How the body of an operation is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// As JSON, if at all, within the limits of bodies.
    Json,
    /// As bytes that are taken piece by piece, within limits of their own.
    Stream,
}

/// When the audit log has an operation. It has every one that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// When it may change something.
    Changes,
    /// Always: what it shows is nobody's business as a rule.
    Always,
}

/// Something in a query or a header.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its JSON schema, as text.
    pub schema: &'static str,
    /// What it is.
    pub meaning: &'static str,
}

impl Parameter {
    /// Describes a parameter; `schema` is JSON.
    #[must_use]
    pub const fn new(name: &'static str, schema: &'static str, meaning: &'static str) -> Self {
        Self { name, schema, meaning }
    }
}

impl Operation {
    /// Looks at something: for viewers unless another role is named.
    #[must_use]
    pub const fn get(id: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self::new("GET", Role::Viewer, (id, path, summary))
    }

    /// Does something: for operators unless another role is named.
    #[must_use]
    pub const fn post(id: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self::new("POST", Role::Operator, (id, path, summary))
    }

    /// Sets something: for operators unless another role is named.
    #[must_use]
    pub const fn put(id: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self::new("PUT", Role::Operator, (id, path, summary))
    }

    /// Takes something away: for operators unless another role is named.
    #[must_use]
    pub const fn delete(id: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self::new("DELETE", Role::Operator, (id, path, summary))
    }

    const fn new(
        method: &'static str,
        role: Role,
        (id, path, summary): (&'static str, &'static str, &'static str),
    ) -> Self {
        Self {
            id,
            method,
            path,
            role,
            summary,
            query: &[],
            body: "",
            body_optional: false,
            body_form: BodyForm::Json,
            audited: Audited::Changes,
            headers: &[],
            answers: &[],
            cli: "",
            console: "",
        }
    }

    /// Names the role that is needed.
    #[must_use]
    pub const fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Describes the query.
    #[must_use]
    pub const fn query(mut self, query: &'static [Parameter]) -> Self {
        self.query = query;
        self
    }

    /// Describes the body, which must be there.
    #[must_use]
    pub const fn body(mut self, schema: &'static str) -> Self {
        self.body = schema;
        self
    }

    /// Describes the body, which may be left out.
    #[must_use]
    pub const fn optional_body(mut self, schema: &'static str) -> Self {
        self.body = schema;
        self.body_optional = true;
        self
    }

    /// Says that the body is bytes that are taken piece by piece, within limits of their own.
    #[must_use]
    pub const fn streamed(mut self) -> Self {
        self.body_form = BodyForm::Stream;
        self
    }

    /// Says that the audit log has it although it changes nothing.
    #[must_use]
    pub const fn always_audited(mut self) -> Self {
        self.audited = Audited::Always;
        self
    }

    /// Describes headers.
    #[must_use]
    pub const fn headers(mut self, headers: &'static [Parameter]) -> Self {
        self.headers = headers;
        self
    }

    /// Describes answers.
    #[must_use]
    pub const fn answers(mut self, answers: &'static [(u16, &'static str)]) -> Self {
        self.answers = answers;
        self
    }

    /// Names the verb of the command line.
    #[must_use]
    pub const fn cli(mut self, verb: &'static str) -> Self {
        self.cli = verb;
        self
    }

    /// Names the page of the console.
    #[must_use]
    pub const fn console(mut self, page: &'static str) -> Self {
        self.console = page;
        self
    }

    /// Returns whether it may change something.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.method != "GET"
    }

    /// Returns whether the audit log has it when it is carried out.
    #[must_use]
    pub fn is_written_down(&self) -> bool {
        self.changes() || self.audited == Audited::Always
    }

    fn has_path(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        for wanted in self.path.split('/') {
            if wanted.starts_with('{') && wanted.ends_with("*}") {
                return segments.next().is_some_and(|first| !first.is_empty());
            }
            match segments.next() {
                Some(segment) if wanted.starts_with('{') && !segment.is_empty() => {}
                Some(segment) if segment == wanted => {}
                Some(_) | None => return false,
            }
        }
        segments.next().is_none()
    }

    fn has_method(&self, method: &Method) -> bool {
        self.method == method.as_str() || (self.method == "GET" && *method == Method::HEAD)
    }

    /// How many of its segments are named in full: of two that fit, the more exact one counts.
    fn exactness(&self) -> usize {
        self.path.split('/').filter(|segment| !segment.starts_with('{')).count()
    }
}

/// All operations of a node.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    all: Vec<&'static Operation>,
}

/// What a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// This.
    For(&'static Operation),
    /// There is something of this path, but only with these methods.
    Otherwise(String),
    /// Nothing that there is.
    Unknown,
}

impl Operations {
    /// Collects operations.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = &'static [Operation]>) -> Self {
        Self { all: parts.into_iter().flatten().collect() }
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &'static Operation> + '_ {
        self.all.iter().copied()
    }

    /// Finds what a request asks for.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Asked {
        let of_path: Vec<_> = self.iter().filter(|operation| operation.has_path(path)).collect();
        let fitting = of_path.iter().filter(|operation| operation.has_method(method));
        if let Some(operation) = fitting.max_by_key(|operation| operation.exactness()) {
            return Asked::For(operation);
        }
        if of_path.is_empty() {
            return Asked::Unknown;
        }
        let mut methods: Vec<_> = of_path.iter().map(|operation| operation.method).collect();
        methods.sort_unstable();
        methods.dedup();
        Asked::Otherwise(methods.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &[Operation] = &[
        Operation::get("jobs.list", "/v1/jobs", "Lists jobs"),
        Operation::post("jobs.preview", "/v1/jobs/preview", "Previews a schedule"),
        Operation::put("jobs.put", "/v1/jobs/{name}", "Makes a job"),
        Operation::post("jobs.any", "/v1/jobs/{name}", "Has the shape of another"),
        Operation::delete("locks.clear", "/v1/locks/{name*}", "Frees a lock"),
    ];

    fn asked(method: &Method, path: &str) -> String {
        match Operations::new([SOME]).find(method, path) {
            Asked::For(operation) => operation.id.to_owned(),
            Asked::Otherwise(allowed) => format!("only {allowed}"),
            Asked::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn x1_only_what_is_written_down_can_be_asked_for() {
        assert_eq!(asked(&Method::GET, "/v1/jobs"), "jobs.list");
        assert_eq!(asked(&Method::HEAD, "/v1/jobs"), "jobs.list");
        assert_eq!(asked(&Method::OPTIONS, "/v1/jobs"), "only GET");
        assert_eq!(asked(&Method::POST, "/v1/jobs/preview"), "jobs.preview");
        assert_eq!(asked(&Method::POST, "/v1/jobs/other"), "jobs.any");
        assert_eq!(asked(&Method::PATCH, "/v1/jobs/other"), "only POST, PUT");
        assert_eq!(asked(&Method::DELETE, "/v1/locks/a/b/c"), "locks.clear");
        for path in ["/v1/jobs/", "/v1/jobs/a/b", "/v1/locks/", "/v1/locks", "/", "//v1/jobs"] {
            assert_eq!(asked(&Method::DELETE, path), "unknown", "{path}");
        }
    }
}
