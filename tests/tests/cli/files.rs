//! Files from a prompt: in at one node and out at another, a space as a folder, and finding what a disk has lost.

use std::fs::{self, File};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use understudy_tests::{Cluster, oracle, wait};

use super::typed::{Ended, command, typed};

const LIMIT: Duration = Duration::from_secs(30);
const BYTES: u32 = 700_000;

struct Stage<'a> {
    cluster: &'a Cluster,
    admin: &'a str,
    operator: &'a str,
    folder: TempDir,
}

impl Stage<'_> {
    /// What a command needs to know, to ask this node with this token.
    fn variables<'b>(&'b self, node: usize, token: &'b str) -> [(&'b str, &'b str); 2] {
        let url = self.cluster.nodes[node].admin_url();
        [("UNDERSTUDY_ADMIN_URL", url), ("UNDERSTUDY_TOKEN", token)]
    }

    async fn admin(&self, node: usize, arguments: &[&str]) -> Ended {
        typed(arguments, &self.variables(node, self.admin)).await
    }

    async fn operator(&self, node: usize, arguments: &[&str]) -> Ended {
        typed(arguments, &self.variables(node, self.operator)).await
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Bytes of which no two pieces are the same.
fn content(seed: u8) -> Vec<u8> {
    (0..BYTES).map(|number| (number / 251 + number) as u8 ^ seed).collect()
}

pub(super) async fn go_in_and_out(cluster: &Cluster, [admin, operator]: [&str; 2]) {
    let stage = Stage { cluster, admin, operator, folder: tempfile::tempdir().unwrap() };
    one_by_one(&stage).await;
    through_pipes(&stage).await;
    as_a_folder(&stage).await;
    what_is_lost_is_found(&stage).await;
}

async fn one_by_one(stage: &Stage<'_>) {
    let (file, out) = (stage.path("in"), stage.path("out"));
    let put = ["files", "put", "avatars", "ann", file.as_str(), "--type", "application/pdf"];
    let get = ["files", "get", "avatars", "ann", out.as_str()];
    fs::write(&file, content(1)).unwrap();
    let told = stage.operator(0, &[&put[..], &["--json"]].concat()).await.expect(0).json();
    assert_eq!((&told["bytes"], &told["content_type"]), (&json!(BYTES), &json!("application/pdf")));
    let absent = stage.operator(0, &[&put[..], &["--if-absent"]].concat()).await;
    oracle!("status of one that must not be there", absent.status, 1);
    stage.operator(1, &get).await.expect(77);
    stage.admin(1, &get).await.expect(0);
    oracle!("whether what came out is what went in", fs::read(&out).unwrap() == content(1), true);
    stage.admin(1, &get).await.expect(64);
    // It is replaced at one node; the other has what was before near.
    fs::write(&file, content(2)).unwrap();
    let version = ["--if-version", told["version"].as_str().unwrap()];
    let changed = [&put[..], &version].concat();
    stage.operator(0, &changed).await.expect(0);
    stage.operator(0, &changed).await.expect(1);
    stage.admin(1, &[&get[..], &["--replace"]].concat()).await.expect(0);
    oracle!(
        "whether the other node gives the new one",
        fs::read(&out).unwrap() == content(2),
        true
    );
    wait::until("who took it out is written down", LIMIT, async || {
        let line = ["audit", "--action", "files.get", "--outcome", "done", "--json"];
        let entries = stage.admin(0, &line).await.expect(0).json();
        entries["entries"].as_array().is_some_and(|entries| entries.len() == 2)
    })
    .await;
}

async fn through_pipes(stage: &Stage<'_>) {
    let file = File::open(stage.path("in")).unwrap();
    let variables = stage.variables(1, stage.operator);
    let mut put = command(&["files", "put", "avatars", "bob", "-"], &variables);
    put.stdin(file);
    let put = tokio::process::Command::from(put).output().await.unwrap();
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let get = command(&["files", "get", "avatars", "bob", "-"], &stage.variables(0, stage.admin));
    let get = tokio::process::Command::from(get).output().await.unwrap();
    assert!(get.status.success(), "{}", String::from_utf8_lossy(&get.stderr));
    oracle!("whether what came out is what went in", get.stdout == content(2), true);
}

/// How many files were sent, were there, and are others.
fn done(report: &Value) -> String {
    format!("{}, {}, {}", report["sent"], report["kept"], report["other"])
}

async fn as_a_folder(stage: &Stage<'_>) {
    let (folder, file) = (stage.path("space"), stage.path("small"));
    let export = ["files", "export", "avatars", folder.as_str(), "--json"];
    let import = ["files", "import", "avatars", folder.as_str(), "--json"];
    let first = stage.admin(1, &export).await.expect(0).json();
    oracle!("files taken out, there, others", done(&first), "2, 0, 0".to_owned());
    let again = stage.admin(0, &export).await.expect(0).json();
    oracle!("files taken out again, there, others", done(&again), "0, 2, 0".to_owned());
    stage.operator(0, &["files", "delete", "avatars", "bob", "--yes"]).await.expect(0);
    fs::write(&file, "another").unwrap();
    stage.operator(1, &["files", "put", "avatars", "ann", &file]).await.expect(0);
    let back = stage.operator(1, &import).await.expect(1).json();
    oracle!("files brought back, there, others", done(&back), "1, 0, 1".to_owned());
    let replaced = [&import[..], &["--replace"]].concat();
    let replaced = stage.operator(0, &replaced).await.expect(0).json();
    oracle!("files replaced, there, others", done(&replaced), "1, 1, 0".to_owned());
    let told = stage.operator(0, &["files", "show", "avatars", "ann", "--json"]).await.json();
    assert_eq!((&told["bytes"], &told["content_type"]), (&json!(BYTES), &json!("application/pdf")));
    fs::remove_file(format!("{folder}/files/ann")).unwrap();
    let torn = stage.operator(0, &import).await.expect(64);
    assert!(torn.complaints.contains("files/ann cannot be read"), "{}", torn.complaints);
    let swept = stage.operator(0, &["files", "sweep"]).await.expect(0);
    assert!(swept.out.contains("completed"), "{}", swept.out);
}

async fn what_is_lost_is_found(stage: &Stage<'_>) {
    let verify = ["files", "verify", "--space", "avatars"];
    let whole = stage.operator(1, &[&verify[..], &["--json"]].concat()).await.expect(0);
    let last: Value = serde_json::from_str(whole.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["line"], &last["files"]), (&json!("done"), &json!(2)), "{}", whole.out);
    // The nodes have pieces of both near; what is looked at is the store.
    let of = |name: &str| {
        format!("file IN (SELECT id FROM us_file WHERE name = '{name}' AND state = 'ready')")
    };
    stage.cluster.postgres.query(&format!("DELETE FROM us_file_piece WHERE {}", of("ann")));
    stage.cluster.postgres.query(&format!(
        "UPDATE us_file_piece SET data = (SELECT other.data FROM us_file_piece other \
         WHERE other.file = us_file_piece.file AND other.number = 1) WHERE number = 0 AND {}",
        of("bob")
    ));
    let lost = stage.operator(1, &verify).await.expect(1);
    let found: Vec<&str> = lost.out.lines().take(2).collect();
    let expected = "missing  avatars  ann; damaged  avatars  bob";
    oracle!("what is found", found.join("; "), expected.to_owned());
    stage.operator(1, &["files", "verify", "--space", "../x"]).await.expect(1);
    for name in ["ann", "bob"] {
        stage.operator(0, &["files", "delete", "avatars", name, "--yes"]).await.expect(0);
    }
}

/// State and reason of each file of the space, by name, as a node with a scanner tells them.
async fn verdicts(stage: &Stage<'_>) -> Vec<(Value, Value)> {
    let told = stage.operator(0, &["files", "list", "scanned", "--json"]).await.expect(0).json();
    let files = told["files"].as_array().unwrap();
    let verdict =
        |file: &Value| (file["verdict"]["state"].clone(), file["verdict"]["reason"].clone());
    files.iter().map(verdict).collect()
}

/// One node is given a scanner: what it did not find to be clean is shown, read, and given to nobody.
pub(super) async fn are_examined(cluster: &mut Cluster, [admin, operator]: [&str; 2]) {
    cluster.nodes[0].set_env("FIXTURE_SCANNER", "yes");
    cluster.restart(0).await;
    let stage = Stage { cluster, admin, operator, folder: tempfile::tempdir().unwrap() };
    for (name, text) in [("bad", "x"), ("good", "a"), ("odd", "?")] {
        let file = stage.path(name);
        fs::write(&file, text).unwrap();
        stage.operator(0, &["files", "put", "scanned", name, &file]).await.expect(0);
    }
    let expected = [
        (json!("infected"), json!("it begins with an x")),
        (json!("clean"), json!(null)),
        (json!("waiting"), json!("the scanner is away")),
    ];
    wait::until("all were examined", LIMIT, async || verdicts(&stage).await == expected).await;
    let table = stage.operator(0, &["files", "list", "scanned"]).await.expect(0);
    for part in ["VERDICT", "infected", "waiting", "the scanner is away"] {
        assert!(table.out.contains(part), "{}", table.out);
    }
    let shown = stage.operator(0, &["files", "show", "scanned", "bad"]).await.expect(0);
    assert!(shown.out.contains("it begins with an x"), "{}", shown.out);
    let (out, folder) = (stage.path("out"), stage.path("space"));
    let refused = stage.admin(0, &["files", "get", "scanned", "bad", &out]).await;
    assert!(refused.status != 0 && refused.complaints.contains("infected"), "{refused:?}");
    // One of them was taken out before it was known.
    fs::create_dir_all(format!("{folder}/files")).unwrap();
    fs::write(format!("{folder}/files/bad"), "x").unwrap();
    let export = stage.admin(0, &["files", "export", "scanned", &folder]).await.expect(1);
    for name in ["bad", "odd"] {
        let told = format!("{name}: it is left out, since it was not found to be clean");
        assert!(export.complaints.contains(&told), "{}", export.complaints);
    }
    let manifest = fs::read_to_string(format!("{folder}/manifest.ndjson")).unwrap();
    let named = |name: &str| manifest.contains(&format!("\"name\":\"{name}\""));
    let exported: Vec<&str> = ["bad", "good", "odd"].into_iter().filter(|it| named(it)).collect();
    oracle!("files of 3 that an export has", exported.join(", "), "good".to_owned());
    let verify = stage.operator(0, &["files", "verify", "--space", "scanned"]).await.expect(0);
    assert!(verify.out.starts_with("3 files read"), "{}", verify.out);
}
