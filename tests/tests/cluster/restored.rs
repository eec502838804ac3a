//! The database is put back from a copy, beside servers that know nothing.

use std::process::Command;

use serde_json::Value;
use understudy_tests::servers::{Scratch, find_program, run};
use understudy_tests::{Client, NodeSpec, Postgres, Redis, oracle};

use super::ground::{LIMIT, member, started};

fn spec(name: &str, redis: &Redis, postgres: &Postgres) -> NodeSpec {
    member(name, redis, postgres).env("UNDERSTUDY_SESSION_STORE", "database")
}

/// Copies everything with the programs that operators use.
fn copy(from: &Postgres, to: &Postgres) {
    let folder = Scratch::new("copy");
    let file = folder.join("dump.sql");
    let mut dump = Command::new(find_program("pg_dump"));
    dump.arg("--dbname").arg(from.url()).arg("--file").arg(&file);
    run(&mut dump, LIMIT).unwrap();
    let mut restore = Command::new(find_program("psql"));
    restore.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname"]);
    restore.arg(to.url()).arg("--file").arg(&file);
    run(&mut restore, LIMIT).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn o7_whoever_is_logged_in_stays_so_on_servers_that_were_restored_from_one_dump() {
    let (old_redis, old) = tokio::join!(Redis::standalone(), Postgres::start());
    let mut node = started(spec("old", &old_redis, &old)).await;
    let client = Client::new();
    client.post(node.public_url(), "/login?user=ann").await.unwrap().expect(204);
    client.post(node.public_url(), "/incr").await.unwrap().expect(200);
    // As after a fire: nobody has left in good order.
    node.kill9();
    let (redis, postgres) = tokio::join!(Redis::standalone(), Postgres::start());
    copy(&old, &postgres);
    drop((node, old_redis, old));
    let node = started(spec("new", &redis, &postgres)).await;
    let who = client.get(node.public_url(), "/whoami").await.unwrap().expect(200);
    oracle!("user on the restored servers", who.json::<Value>()["user"], "ann");
    let counted = client.post(node.public_url(), "/incr").await.unwrap().expect(200);
    oracle!("counter there", counted.json::<Value>()["value"], 2);
}
