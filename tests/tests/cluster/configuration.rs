//! Options of a cluster: where secrets come from, what is missing, what may change while it runs.

use std::os::unix::fs::PermissionsExt as _;

use understudy_tests::servers::Scratch;
use understudy_tests::{Client, NodeSpec, Postgres, Redis, oracle};

use super::ground::{SECRET, bare, cluster_of, member, refused, started};
use super::smoke::user;

#[tokio::test(flavor = "multi_thread")]
async fn g2_secrets_come_from_files() {
    let (redis, postgres) = tokio::join!(
        Redis::builder(understudy_tests::Topology::Standalone).password("pw-2").start(),
        Postgres::start()
    );
    let folder = Scratch::new("secrets");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let plain = member("plain", &redis, &postgres);
    let filed = member("filed", &redis, &postgres)
        .without_env("UNDERSTUDY_SESSION_SECRET")
        .without_env("UNDERSTUDY_REDIS_URL")
        .without_env("UNDERSTUDY_DATABASE_URL")
        .env("UNDERSTUDY_SESSION_SECRET_FILE", &file("session", SECRET))
        .env("UNDERSTUDY_REDIS_URL_FILE", &file("redis", &redis.url()))
        .env("UNDERSTUDY_DATABASE_URL_FILE", &file("database", &postgres.url()));
    let (plain, filed) = tokio::join!(started(plain), started(filed));
    let client = Client::new();
    client.post(plain.public_url(), "/login?user=ann").await.unwrap().expect(204);
    assert_eq!(user(&client, filed.public_url()).await, "ann", "it is the same secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_a_file_that_cannot_be_read_stops_the_node() {
    let folder = Scratch::new("secrets");
    std::fs::write(folder.join("short"), "canary").unwrap();
    let short = folder.join("short").display().to_string();
    let directory = folder.path().display().to_string();
    for path in ["/nowhere/canary", directory.as_str(), short.as_str()] {
        let spec = NodeSpec::new("g2").env("UNDERSTUDY_SESSION_SECRET_FILE", path);
        let (status, said) = refused(spec).await;
        oracle!("exit status", status, 78);
        assert!(said.starts_with("UNDERSTUDY_SESSION_SECRET_FILE: "), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
    let both = NodeSpec::new("g2")
        .env("UNDERSTUDY_SESSION_SECRET_FILE", &short)
        .env("UNDERSTUDY_SESSION_SECRET", SECRET);
    oracle!("exit status with both", refused(both).await.0, 78);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_three_wrong_options_make_three_lines_without_their_values() {
    let spec = NodeSpec::new("g3")
        .env("UNDERSTUDY_SESSION_SECRET", "canary-1")
        .env("UNDERSTUDY_HTTP_WORKERS", "canary-2")
        .env("UNDERSTUDY_DATABASE_URL", "canary-3://canary-4");
    let (status, said) = refused(spec).await;
    oracle!("exit status", status, 78);
    oracle!("lines", said.lines().count(), 3);
    oracle!("values that were repeated", said.matches("canary").count(), 0);
    for name in ["SESSION_SECRET", "HTTP_WORKERS", "DATABASE_URL"] {
        assert!(said.contains(&format!("UNDERSTUDY_{name}: ")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_g6_a_cluster_without_what_it_needs_is_refused_by_name() {
    let whole = || {
        bare("g6")
            .env("UNDERSTUDY_REDIS_URL", "redis://127.0.0.1:1")
            .env("UNDERSTUDY_DATABASE_URL", "postgres://127.0.0.1:1/d")
    };
    for name in ["REDIS_URL", "DATABASE_URL", "SESSION_SECRET", "HTTP_EXTERNAL_URL"] {
        let name = format!("UNDERSTUDY_{name}");
        let (status, said) = refused(whole().without_env(&name)).await;
        oracle!(&format!("exit status without {name}"), status, 78);
        assert!(said.starts_with(&format!("{name}: ")) && said.lines().count() == 1, "{said}");
    }
    let alias = NodeSpec::new("g6").env("CLUSTER_ENABLED", "true");
    let (status, said) = refused(alias).await;
    oracle!("exit status of CLUSTER_ENABLED alone", status, 78);
    oracle!("lines, one for each that is missing", said.lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_a_new_secret_logs_nobody_out_while_it_is_rolled_in() {
    const OLD: &str = "the-old-secret-of-these-tests-0123456789";
    const NEW: &str = "the-new-secret-of-these-tests-0123456789";
    let mut cluster = cluster_of(2).env("UNDERSTUDY_SESSION_SECRET", OLD).start().await;
    let client = Client::new();
    client.post(cluster.url(0), "/login?user=ann").await.unwrap().expect(204);
    let mut logouts = 0;
    for secrets in [format!("{NEW},{OLD}"), NEW.to_owned()] {
        for index in 0..2 {
            cluster.nodes[index].set_env("UNDERSTUDY_SESSION_SECRET", &secrets);
            cluster.nodes[index].terminate();
            cluster.nodes[index].wait_exit(super::ground::LIMIT).await;
            cluster.restart(index).await;
            for base in [cluster.url(index), cluster.url(1 - index), cluster.url(index)] {
                logouts += usize::from(user(&client, base).await != "ann");
                // Somebody who comes now must be known everywhere, too.
                let new = Client::new();
                new.post(base, "/login?user=bob").await.unwrap().expect(204);
                logouts += usize::from(user(&new, cluster.url(0)).await != "bob");
                logouts += usize::from(user(&new, cluster.url(1)).await != "bob");
            }
        }
    }
    oracle!("requests that were logged out", logouts, 0);
}
