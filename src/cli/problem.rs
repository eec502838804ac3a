//! A problem that a node answered with (RFC 9457), and what to do about it.

use std::fmt;

use serde_json::{Map, Value};

/// So much of an answer that is no problem document is told.
const TOLD: usize = 200;

/// What a node did not do, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    /// The HTTP status.
    pub(super) status: u16,
    /// The stable name of this kind of problem; empty when the answer is not one of a node.
    pub(super) code: String,
    title: String,
    detail: String,
    /// The request in the node's log.
    request: Option<String>,
    /// When it may be tried again, seconds.
    retry_after: Option<u64>,
    pub(super) members: Map<String, Value>,
    /// The answer as it came.
    raw: Vec<u8>,
}

impl Problem {
    /// Reads the answer to a request that was refused.
    pub(super) fn of(status: u16, retry_after: Option<u64>, raw: Vec<u8>) -> Self {
        let members = match serde_json::from_slice(&raw) {
            Ok(Value::Object(members)) => members,
            Ok(_) | Err(_) => Map::new(),
        };
        let text =
            |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let request = text("instance").strip_prefix("urn:understudy:request:").map(str::to_owned);
        let (code, mut title, mut detail) = (text("code"), text("title"), text("detail"));
        if title.is_empty() {
            title = format!("the answer has the status {status}");
            let told: String = String::from_utf8_lossy(&raw).chars().take(TOLD).collect();
            told.trim().clone_into(&mut detail);
        }
        Self { status, code, title, detail, request, retry_after, members, raw }
    }

    /// The answer for programs: as it came, or, if it is no problem document (the page of a balancer), one that is made here.
    pub(super) fn json(&self) -> Vec<u8> {
        if self.members.is_empty() {
            let made = serde_json::json!({ "status": self.status, "title": self.title });
            return made.to_string().into_bytes();
        }
        self.raw.clone()
    }

    /// The request that was refused, as the node's log names it.
    pub(super) fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// What an operator can do about it.
    pub(super) fn advice(&self) -> Option<String> {
        let fixed = match self.code.as_str() {
            "unauthorized" => {
                "give a token that the node knows: --token-file, UNDERSTUDY_TOKEN or UNDERSTUDY_TOKEN_FILE"
            }
            "forbidden" => return Some(self.needed_role()),
            "last_node" => {
                "--force does it nevertheless; the cluster is then without a node for this work"
            }
            "unknown_node" => "`understudy nodes` lists the nodes",
            "unknown_job" => {
                "`understudy jobs` lists the jobs, with --system those of Understudy itself"
            }
            "unknown_run" => "`understudy runs` lists the runs",
            "unknown_setting" => "`understudy settings` lists the settings",
            "unknown_session" => "`understudy sessions` lists the sessions",
            "unknown_actor_type" => "`understudy actors` lists the types",
            "unknown_region" => "`understudy caches` lists the regions",
            "unknown_token" => "`understudy token list` lists the tokens",
            "log_tail_off" => {
                "`settings set log_tail on --why ... --for 10min` lets it be followed, on all nodes"
            }
            "other_node" => "ask that node itself, with --url",
            "not_waiting" => {
                "start a node with UNDERSTUDY_DATABASE_MIGRATE=wait, and ask it while it waits"
            }
            "unknown_file" => "`understudy files list` lists the files of a space",
            "file_check_too_long" => "`understudy files verify` takes as long as it takes",
            "file_changed" => "`understudy files show` shows what is there now",
            "file_unknown_key" | "file_other_key" => {
                "`understudy files keys` tells which keys there are files under; another node may have it"
            }
            "file_quarantined" => "it is given to nobody before it was examined; try again later",
            "files_verify_under_way" => "wait until it is done, or ask another node, with --url",
            "lock_not_held" => "`understudy locks` lists the locks",
            "already_running" => {
                return self
                    .member("run")
                    .map(|run| format!("`understudy run show {run}` shows it"));
            }
            "revision_changed" => return self.member("revision").as_deref().map(revision),
            "job_not_yours" => "`job disable` keeps it from starting",
            "run_not_ended" => "`run cancel` ends it",
            "run_completed" => "`job run` starts the job again",
            "no_other_node" => "start another node, or end its maintenance with `node resume`",
            "not_safe" => {
                "wait until nothing speaks against it any more, or stop it knowing what that costs"
            }
            _ => return self.by_status(),
        };
        Some(fixed.to_owned())
    }

    fn needed_role(&self) -> String {
        match self.member("needed_role") {
            Some(role) => format!(
                "use a token of the role {role} or a greater one; `understudy whoami` shows yours"
            ),
            None => "use a token with more rights; `understudy whoami` shows yours".to_owned(),
        }
    }

    fn by_status(&self) -> Option<String> {
        match (self.status, self.retry_after) {
            (404, _) if self.code.is_empty() || self.code == "not_found" => Some(
                "the node does not know this resource: is it of the same version, and is --url its admin port?".to_owned(),
            ),
            (502..=504, Some(seconds)) => Some(format!("try again in {seconds} s")),
            (502..=504, None) => Some("try again, or ask another node".to_owned()),
            _ => None,
        }
    }

    fn member(&self, name: &str) -> Option<String> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(super::show::plain(value))
    }

    #[cfg(test)]
    pub(super) fn for_test(status: u16, code: &str) -> Self {
        let body = serde_json::json!({ "title": "A title", "detail": "a detail", "code": code });
        Self::of(status, None, body.to_string().into_bytes())
    }
}

fn revision(revision: &str) -> String {
    match revision {
        "0" => "look at it again before you change it".to_owned(),
        _ => format!("look at it again before you change it: it has revision {revision}"),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, body: &str) -> Problem {
        Problem::of(status, Some(3), body.as_bytes().to_vec())
    }

    #[test]
    fn a_problem_is_told_by_title_and_detail_with_what_to_do() {
        let told = problem(
            409,
            r#"{"title":"No other node","detail":"a is the last","code":"last_node","instance":"urn:understudy:request:r1"}"#,
        );
        assert_eq!(told.to_string(), "No other node: a is the last");
        assert!(told.advice().unwrap().contains("--force"));
        assert_eq!(told.request(), Some("r1"));
        let told = problem(403, r#"{"title":"No","code":"forbidden","needed_role":"admin"}"#);
        assert!(told.to_string() == "No" && told.advice().unwrap().contains("role admin"));
        let told = problem(409, r#"{"title":"Busy","code":"already_running","run":7}"#);
        assert_eq!(told.advice().unwrap(), "`understudy run show 7` shows it");
        let told = problem(503, r#"{"title":"Away","code":"database_unavailable"}"#);
        assert_eq!(told.advice().unwrap(), "try again in 3 s");
        assert_eq!(problem(422, r#"{"title":"x","code":"invalid_job"}"#).advice(), None);
    }

    #[test]
    fn an_answer_of_somebody_else_is_told_as_far_as_it_makes_sense() {
        let told = problem(404, "<html>no such page</html>");
        assert_eq!(told.to_string(), "the answer has the status 404: <html>no such page</html>");
        assert!(told.advice().unwrap().contains("admin port"));
        assert_eq!(problem(500, "[1]").to_string(), "the answer has the status 500: [1]");
        let made = r#"{"status":502,"title":"the answer has the status 502"}"#;
        assert_eq!(problem(502, "<html>\x1b[2J").json(), made.as_bytes());
        let sent = r#"{"title": "Busy", "code":"x"}"#;
        assert_eq!(problem(409, sent).json(), sent.as_bytes());
        assert_eq!(problem(500, &"x".repeat(5_000)).to_string().len(), 29 + 2 + TOLD);
    }
}
