//! What operators do with jobs and see of them: pauses, explanations, the past, and the jobs of Understudy itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Cluster, crowd, oracle, wait};

use super::stage::{LIMIT, Stage, options};

const EACH: Duration = Duration::from_millis(100);
/// A due time may be claimed this much before it comes.
const EARLY_MS: u64 = 50;
const SECOND: u64 = 1_000;
const DAY: u64 = 86_400_000;
/// A missed due time is one that is later than this.
const MISFIRE_MS: u64 = 2_000;
const SYSTEM_JOBS: [&str; 8] = [
    "system.audit-purge",
    "system.files-orphans",
    "system.files-sweep",
    "system.history",
    "system.nodes",
    "system.session-kin",
    "system.session-sweep",
    "system.stale-runs",
];
const SESSIONS: usize = 100;

impl Stage {
    /// Why a job did or did not run at a time.
    async fn explain(&self, job: &str, at_ms: u64) -> Value {
        self.get(&format!("/v1/jobs/{job}/explain?at={at_ms}")).await.expect(200).json()
    }

    /// Demands a verdict, and a word of the text.
    async fn explains(&self, at_ms: u64, verdict: &str, text: &str) {
        let told = self.explain("probe", at_ms).await;
        oracle!("verdict", told["verdict"], json!(verdict));
        assert!(told["text"].as_str().unwrap().contains(text), "{told}");
    }

    /// Waits until the database's clock shows a time.
    async fn until_time(&self, at_ms: u64) {
        wait::poll("the time comes", LIMIT, EACH, async || (self.now_ms() > at_ms).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_told_why_a_job_ran_or_did_not() {
    let stage = Stage::start().await;
    stage.with_probe(json!({ "policy": "skip" })).await;
    let completed = "SELECT coalesce(max(fire_ms), 0) FROM us_job_run WHERE job = 'probe' AND state = 'completed'";
    wait::until("a run has ended", LIMIT, async || stage.count(completed) > 0).await;
    let ran = stage.count(completed);
    stage.explains(ran, "ran", "was due then; it is completed").await;
    stage.explains(ran + 1, "not_due", "not due then").await;
    let future = (stage.now_ms() / SECOND + 60) * SECOND;
    stage.explains(future, "future", "in the future, and due").await;
    let created = stage.count("SELECT created_ms FROM us_job WHERE name = 'probe'");
    let before = (created / SECOND - 60) * SECOND;
    stage.explains(before, "before_definition", "did not exist").await;
    stage.get("/v1/jobs/nobody/explain").await.expect(404);

    paused(&stage, "/v1/jobs/probe", "paused by operator: the disk is full").await;
    paused(&stage, "/v1/scheduler", "the cluster was paused by operator: the disk is full").await;
    leaderless(&stage).await;
    stage.settle("probe").await;
}

/// Pauses the job or the whole cluster, and resumes it.
async fn paused(stage: &Stage, what: &str, why: &str) {
    let pause = format!("{what}/pause");
    stage.post(&pause, json!({ "why": "the disk is full" })).await.expect(200);
    let since = stage.now_ms();
    let told =
        stage.ask(&stage.cluster.nodes[2], Method::GET, what, &Value::Null).await.expect(200);
    let told: Value = told.json();
    let pause =
        if told["switches"].is_object() { &told["switches"]["pause"] } else { &told["paused"] };
    assert_eq!(
        (&pause["by"], &pause["why"]),
        (&json!("operator"), &json!("the disk is full")),
        "{told}"
    );
    let decided = format!(
        "SELECT COALESCE(max(from_ms), 0) FROM us_fire_decision \
         WHERE job = 'probe' AND outcome = 'paused' AND from_ms > {since}"
    );
    stage.until_count("a due time is refused", &decided, |fire_ms| fire_ms > 0).await;
    stage.explains(stage.count(&decided), "decided", why).await;
    let system = format!("SELECT count(*) FROM us_job_run WHERE system AND started_ms > {since}");
    stage.until_count("jobs that keep the cluster clean go on", &system, |runs| runs > 0).await;
    let until = stage.now_ms();
    let started = stage.count(&format!(
        "SELECT count(*) FROM probe WHERE fire_ms > {} AND fire_ms <= {until}",
        since + EARLY_MS
    ));
    oracle!("starts during the pause", started, 0);
    stage.post(&format!("{what}/resume"), json!({})).await.expect(200);
    stage.goes_on().await;
}

/// Nobody may lead: what is due is pending, and then told as what nobody led for.
async fn leaderless(stage: &Stage) {
    let maintenance = async |method: Method, query: &str| {
        for node in &stage.cluster.nodes {
            let path = format!("/v1/nodes/{}/maintenance{query}", node.name());
            let body = if query.is_empty() { json!({}) } else { json!({ "why": "a test" }) };
            stage.ask(node, method.clone(), &path, &body).await.expect(200);
        }
    };
    maintenance(Method::POST, "?force=true").await;
    // Else one of them could be on the point of leading.
    for node in &stage.cluster.nodes {
        wait::until("it knows that it does not lead", LIMIT, async || {
            let told = stage.ask(node, Method::GET, "/v1/leader", &Value::Null).await;
            told.expect(200).json::<Value>()["maintenance"] == true
        })
        .await;
    }
    let leads = "SELECT count(*) FROM us_leader_history WHERE ended_ms IS NULL";
    stage.until_count("nobody leads", leads, |terms| terms == 0).await;
    // Whoever led may have begun the run of the next due time that early.
    let due = ((stage.now_ms() + EARLY_MS) / SECOND + 1) * SECOND;
    stage.until_time(due + MISFIRE_MS / 2).await;
    stage.explains(due, "pending", "no node leads").await;
    stage.until_time(due + MISFIRE_MS + SECOND).await;
    maintenance(Method::DELETE, "").await;
    let decided = format!(
        "SELECT count(*) FROM us_fire_decision WHERE job = 'probe' AND outcome = 'leaderless' \
         AND {due} BETWEEN from_ms AND to_ms"
    );
    stage.until_count("the next leader decides about it", &decided, |rows| rows == 1).await;
    stage.explains(due, "decided", "no node led at that time").await;
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j12_l11_s15_what_is_over_is_swept_by_visible_jobs_and_j16_hooks_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let notes = Notes { file: folder.path().join("notes") };
    let builder = options(Cluster::builder())
        .env("UNDERSTUDY_JOBS_HISTORY_S", "60")
        .env("UNDERSTUDY_SESSION_IDLE_S", "2")
        .env("UNDERSTUDY_SESSION_TOUCH_S", "1")
        .env("FIXTURE_NOTES", &notes.file.display().to_string());
    let mut stage = Stage::with(builder).await;
    let sessions = crowd(10, SESSIONS, async |number| {
        let base = stage.cluster.url(number % 3);
        let visitor = stage.client.stranger();
        visitor.post(base, "/set?k=a&v=b").await.unwrap().status
    })
    .await;
    oracle!(
        "sessions that began",
        sessions.iter().filter(|status| **status == 204).count(),
        SESSIONS
    );
    stage.with_probe(json!({ "policy": "fire_once" })).await;
    backfilled(&stage).await;
    previewed(&stage).await;
    forgotten(&stage).await;
    swept(&stage, &notes).await;
    listed(&stage).await;
    hooked(&mut stage, &notes).await;
    stage.no_second_start("probe");
}

/// What the nodes have noted, a line each: what happened, and to whom.
struct Notes {
    file: PathBuf,
}

impl Notes {
    fn of(&self, what: &str) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(noted, _)| *noted == what).map(|(_, who)| who.to_owned()).collect()
    }

    async fn until(&self, what: &str, times: usize) {
        let noted = async || (self.of(what).len() >= times).then_some(());
        wait::poll(&format!("`{what}` is noted"), LIMIT, EACH, noted).await;
    }
}

/// Due times of the past start once, and once more for who asks for it by a word of their own.
async fn backfilled(stage: &Stage) {
    let midnight = json!({ "kind": "cron", "expression": "0 0 * * *", "time_zone": "UTC" });
    stage.define(json!({ "name": "daily", "handler": "probe", "schedule": midnight })).await;
    let to = stage.now_ms();
    let range = json!({ "from": (to / DAY - 2) * DAY, "to": to });
    let asked = async |again: Option<&str>| {
        let mut range = range.clone();
        if let Some(again) = again {
            range["again"] = json!(again);
        }
        let answer = stage.post("/v1/jobs/daily/backfill", range).await.expect(202);
        answer.json::<Value>()["runs"].as_u64().expect("a number")
    };
    oracle!("runs of three midnights", asked(None).await, 3);
    oracle!("runs when asked again", asked(None).await, 0);
    oracle!("runs when asked again by another name", asked(Some("audit")).await, 3);
    oracle!("runs when asked again by that name", asked(Some("audit")).await, 0);
    let done = "SELECT count(*) FROM us_job_run WHERE job = 'daily' AND state = 'completed' AND cause = 'backfill'";
    stage.until_count("all have run", done, |runs| runs == 6).await;
    let each = format!(
        "SELECT count(*) FROM (SELECT 1 FROM probe WHERE job = 'daily' AND fire_ms % {DAY} = 0 \
         GROUP BY fire_ms HAVING count(*) = 2) twice"
    );
    oracle!("midnights that started twice, as asked for", stage.count(&each), 3);
    oracle!("most at once of a job that does not overlap", stage.most_at_once("daily"), 1);
}

/// What comes is told before it is saved, with what the clocks do to it.
async fn previewed(stage: &Stage) {
    for (from, day) in
        [("2026-03-27T12:00:00Z", "2026-03-29"), ("2026-10-23T12:00:00Z", "2026-10-25")]
    {
        let schedule =
            json!({ "kind": "cron", "expression": "30 2 * * *", "time_zone": "Europe/Amsterdam" });
        let body = json!({ "schedule": schedule, "from": from, "count": 5 });
        let told: Value = stage.post("/v1/jobs/preview", body).await.expect(200).json();
        let fires = told["fires"].as_array().unwrap();
        let that_day = fires.iter().filter(|fire| {
            fire["skipped"] == false && fire["local"].as_str().unwrap().starts_with(day)
        });
        oracle!(&format!("j3: runs on {day}, when 02:30 is special"), that_day.count(), 1);
        assert!(told["words"].as_str().unwrap().contains("02:30"), "{told}");
    }
    let told: Value = stage.get("/v1/jobs/daily/preview?count=3").await.expect(200).json();
    let fires: Vec<u64> = told["fires"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fire| fire["at_ms"].as_u64().unwrap())
        .collect();
    let first = (stage.now_ms() / DAY + 1) * DAY;
    assert_eq!(fires, [first, first + DAY, first + 2 * DAY]);
    let due: Value = stage.get("/v1/jobs-due?within_ms=2000").await.expect(200).json();
    assert!(due["due"].as_array().unwrap().iter().any(|due| due["job"] == "probe"), "{due}");
}

/// Runs that ended long ago are forgotten, with all that belongs to them; one that goes on is not.
async fn forgotten(stage: &Stage) {
    stage.manual("slow", "slow", json!({ "params": { "ms": 60_000 } })).await;
    let kept = stage.run("slow").await;
    stage.until_begun(kept, 1).await;
    stage.manual("noisy", "letters", json!({ "params": { "to": "a", "copies": 3 } })).await;
    let noisy = stage.run("noisy").await;
    stage.until_ended(noisy).await;
    let lines = format!("SELECT count(*) FROM us_run_log WHERE run_id = {noisy}");
    oracle!("lines that are kept once a run has ended", stage.count(&lines), 4);
    let old = stage.count("SELECT min(fire_ms) FROM us_job_run WHERE job = 'probe'");
    stage.cluster.postgres.query(
        "UPDATE us_job_run SET finished_ms = finished_ms - 3600000 WHERE finished_ms IS NOT NULL;
         UPDATE us_job_run SET started_ms = started_ms - 3600000, fire_ms = fire_ms - 3600000 WHERE state = 'running' AND job = 'slow';
         UPDATE us_fire_decision SET at_ms = at_ms - 3600000",
    );
    let purge = stage.run("system.history").await;
    stage.until_state(purge, &["completed"]).await;
    let left = |which: &str| {
        stage.count(&format!(
            "SELECT count(*) FROM us_job_run WHERE job {which} 'cluster-first-start.%' AND finished_ms < \
             CAST(extract(epoch from clock_timestamp()) * 1000 AS bigint) - 60000"
        ))
    };
    oracle!("runs older than they are kept", left("NOT LIKE"), 0);
    oracle!(
        "old first starts of a deployment, without which it would start again",
        left("LIKE"),
        1
    );
    oracle!("lines of a run that is forgotten", stage.count(&lines), 0);
    stage.get(&format!("/v1/runs/{noisy}")).await.expect(404);
    oracle!("state of the old run that goes on", stage.row(kept).await["state"], json!("running"));
    stage.explains(old, "forgotten", "purged").await;
    stage.goes_on().await;
    let recent = "SELECT count(*) FROM us_job_run WHERE job = 'probe' AND finished_ms IS NOT NULL";
    stage.until_count("a run ends that is kept", recent, |kept| kept >= 1).await;
    stage.post(&format!("/v1/runs/{kept}/cancel"), json!({})).await.expect(202);
}

/// Sessions that ran out of time are swept by one node for all: each is told once.
async fn swept(stage: &Stage, notes: &Notes) {
    let expired = async || stage.cluster.metric("session_expired_total").await;
    wait::poll("all sessions are swept", LIMIT, EACH, async || {
        (expired().await >= SESSIONS as f64).then_some(())
    })
    .await;
    let sweep = stage.run("system.session-sweep").await;
    stage.until_state(sweep, &["completed"]).await;
    oracle!("s15: sessions counted as expired, over all nodes", expired().await, SESSIONS as f64);
    let told = notes.of("expired");
    let different: BTreeSet<&String> = told.iter().collect();
    oracle!("s15: calls of on_session_expired", told.len(), SESSIONS);
    oracle!("s15: sessions that they told of", different.len(), SESSIONS);
}

/// Hooks of nodes are called on each, those of the cluster once per deployment, those of the leader on the leader.
async fn hooked(stage: &mut Stage, notes: &Notes) {
    notes.until("first", 1).await;
    oracle!("j16: starts of nodes", notes.of("start").len(), 3);
    oracle!("j16: first starts of the deployment", notes.of("first").len(), 1);
    oracle!("j16: nodes that stopped", notes.of("stop").len(), 0);
    let (leader, led) = (stage.leader().await, notes.of("lead").len());
    oracle!(
        "j16: number of the node that was told last that it leads",
        stage.number_of(&notes.of("lead")[led - 1]),
        leader
    );
    stage.cluster.nodes[leader].set_env("FIXTURE_DEPLOYMENT", "two");
    stage.roll(leader).await;
    notes.until("lead", led + 1).await;
    notes.until("first", 2).await;
    oracle!("j16: starts of nodes", notes.of("start").len(), 4);
    oracle!("j16: nodes that stopped", notes.of("stop").len(), 1);
    oracle!("j16: leaders that were told that they lead no more", notes.of("follow").len(), led);
    assert_eq!(notes.of("first"), ["cluster-first-start.one", "cluster-first-start.two"]);
    let other = (leader + 1) % 3;
    stage.cluster.nodes[other].set_env("FIXTURE_DEPLOYMENT", "two");
    stage.roll(other).await;
    oracle!("j16: first starts after one more node has come", notes.of("first").len(), 2);
}

/// What Understudy does for itself is listed with its last run, apart from the jobs of the application.
async fn listed(stage: &Stage) {
    for job in SYSTEM_JOBS {
        let run = stage.run(job).await;
        stage.until_state(run, &["completed"]).await;
    }
    let told: Value = stage.get("/v1/jobs?system=true").await.expect(200).json();
    let jobs = told["jobs"].as_array().unwrap();
    for job in SYSTEM_JOBS {
        let found = jobs
            .iter()
            .find(|one| one["name"] == job)
            .unwrap_or_else(|| panic!("{job} is missing"));
        oracle!(&format!("l11: last state of {job}"), found["last_state"], json!("completed"));
        assert!(!found["spec"]["description"].as_str().unwrap().is_empty(), "{found}");
    }
    let own: Value = stage.get("/v1/jobs").await.expect(200).json();
    let own = own["jobs"].as_array().unwrap().iter().filter(|job| job["spec"]["system"] == true);
    oracle!("jobs of Understudy among those of the application", own.count(), 0);
}
