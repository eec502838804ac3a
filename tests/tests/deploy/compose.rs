//! The cluster of compose.yaml, and the image of its nodes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::files::{accepted, assignments, default_of, is_option, project, read, secrets};
use super::limits::{is_enough, stop_limit};
use super::yaml::{at, document, text};

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

fn compose() -> Value {
    document(&read("deploy/compose.yaml"))
}

fn service(compose: &Value, name: &str) -> Value {
    at(compose, &format!("/services/{name}")).clone()
}

fn variables(service: &Value) -> BTreeMap<String, String> {
    let entries = at(service, "/environment").as_object().unwrap();
    entries.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

#[actix_web::test]
async fn o5_the_nodes_of_compose_are_three_hardened_and_accept_their_options() {
    let compose = compose();
    let (sample, _) = assignments(&read("deploy/.env.example"));
    let mut limit = None;
    for name in NODES {
        let node = service(&compose, name);
        let mut options = variables(&node);
        assert_eq!(options["UNDERSTUDY_NODE_ID"], name);
        options.keys().for_each(|option| assert!(is_option(option), "{option} is no option"));
        assert_eq!(node["env_file"], ".env");
        assert_eq!(node["read_only"], true);
        assert_eq!(node["cap_drop"], serde_json::json!(["ALL"]));
        assert_eq!(node["security_opt"], serde_json::json!(["no-new-privileges:true"]));
        assert!(node.get("ports").is_none(), "only the balancer is to be reached from outside");
        // As the tool does it: the file first, then what stands here, with the names filled in.
        for value in options.values_mut() {
            *value = filled_in(value);
        }
        let mut all: BTreeMap<String, String> = sample
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        all.extend(secrets());
        all.extend(options);
        accepted(&all);
        limit = Some(stop_limit(&all).await);
        is_enough(name, seconds(text(&node, "/stop_grace_period")), limit.unwrap());
    }
    assert!(limit.is_some());
}

/// Puts a password where compose takes one from the environment.
fn filled_in(value: &str) -> String {
    let Some((before, rest)) = value.split_once("${") else { return value.to_owned() };
    let (_, after) = rest.split_once('}').unwrap();
    filled_in(&format!("{before}password{after}"))
}

#[test]
fn o5_addresses_in_compose_agree_with_the_files_that_name_them() {
    let compose = compose();
    let address =
        |name: &str| text(&service(&compose, name), "/networks/inside/ipv4_address").to_owned();
    let names: Vec<String> =
        at(&compose, "/services").as_object().unwrap().keys().cloned().collect();
    let all: BTreeSet<String> = names.iter().map(|name| address(name)).collect();
    assert_eq!(all.len(), names.len(), "every container has an address of its own");
    let subnet = text(&compose, "/networks/inside/ipam/config/0/subnet");
    let inside = subnet.strip_suffix("0/24").unwrap();
    assert!(all.iter().all(|address| address.starts_with(inside)), "{all:?} in {subnet}");
    // nginx: the same file as everywhere, whose upstream has these names; trusted by the nodes.
    let upstream = read("deploy/nginx.conf");
    NODES
        .iter()
        .for_each(|node| assert!(upstream.contains(&format!("server {node}:8080 ")), "{node}"));
    let (sample, _) = assignments(&read("deploy/.env.example"));
    assert_eq!(sample["UNDERSTUDY_HTTP_TRUSTED_PROXIES"], format!("{}/32", address("nginx")));
    let published = text(&service(&compose, "nginx"), "/ports/0").to_owned();
    let (outside, port) = published.split_once(':').unwrap();
    assert!(upstream.contains(&format!("listen {port};")));
    assert_eq!(sample["UNDERSTUDY_HTTP_EXTERNAL_URL"], format!("http://localhost:{outside}"));
    // Redis: the Sentinels begin with the primary, the replica follows it.
    let primary = address("redis-1");
    assert!(
        read("deploy/sentinel.conf")
            .contains(&format!("sentinel monitor mymaster {primary} 6379 2"))
    );
    assert_eq!(
        variables(&service(&compose, "redis-2"))["REPLICA_OF"],
        format!("--replicaof {primary} 6379")
    );
    let url = variables(&service(&compose, "node-a"))["UNDERSTUDY_REDIS_URL"].clone();
    names.iter().filter(|name| name.starts_with("sentinel-")).for_each(|name| {
        assert!(url.contains(&format!("{name}:26379")), "{url}");
    });
}

#[test]
fn o5_what_compose_names_is_there() {
    let compose = compose();
    let services = at(&compose, "/services").as_object().unwrap();
    let mut mounted = 0;
    for (name, service) in services {
        for volume in service.get("volumes").and_then(Value::as_array).into_iter().flatten() {
            let (from, _) = volume.as_str().unwrap().split_once(':').unwrap();
            if let Some(file) = from.strip_prefix("./") {
                assert!(project().join("deploy").join(file).is_file(), "{name} mounts {from}");
                mounted += 1;
            } else {
                assert!(
                    compose["volumes"].get(from).is_some(),
                    "{name}: there is no volume {from}"
                );
            }
        }
        if let Some(needs) = service.get("depends_on").and_then(Value::as_object) {
            for (needed, how) in needs {
                let other = services.get(needed).unwrap_or_else(|| panic!("{name} needs {needed}"));
                // The image of the nodes brings a check of its own.
                let checked = other.get("healthcheck").is_some() || other.get("build").is_some();
                assert!(how["condition"] != "service_healthy" || checked, "{needed} has no check");
            }
        }
        assert!(
            service["image"]
                .as_str()
                .is_some_and(|image| image.contains(':') && !image.ends_with(":latest"))
        );
    }
    assert_eq!(mounted, 4, "nginx.conf, and sentinel.conf three times");
}

/// The instructions of a Dockerfile, continued lines joined.
fn instructions(dockerfile: &str) -> Vec<(String, String)> {
    let joined = dockerfile.replace("\\\n", " ");
    let lines =
        joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

#[test]
fn o5_the_image_runs_as_nobody_drains_when_it_is_stopped_and_checks_itself() {
    let all = instructions(&read("deploy/Dockerfile"));
    let last_stage = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let (build, node) = all.split_at(last_stage);
    let says = |word: &str| -> Vec<&str> {
        node.iter().filter(|(other, _)| other == word).map(|(_, rest)| rest.as_str()).collect()
    };
    assert_eq!(says("USER"), ["65532:65532"]);
    assert_eq!(says("STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(says("ENTRYPOINT"), [r#"["/usr/local/bin/understudy"]"#]);
    assert_eq!(says("CMD"), [r#"["serve"]"#]);
    assert!(says("HEALTHCHECK")[0].ends_with(r#"CMD ["/usr/local/bin/understudy", "health"]"#));
    assert!(says("RUN").is_empty(), "the last stage has no shell");
    let port = |name: &str| default_of(name).rsplit(':').next().unwrap();
    let ports = format!("{} {}", port("UNDERSTUDY_HTTP_BIND"), port("UNDERSTUDY_ADMIN_BIND"));
    assert_eq!(says("EXPOSE"), [ports.as_str()]);
    for setting in says("ENV") {
        let (name, value) = setting.split_once('=').unwrap();
        assert!(is_option(name), "{name} is no option");
        assert!(says("VOLUME")[0].contains(value), "what is written to is a volume");
    }
    let cargo = read("Cargo.toml");
    let version = cargo.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    let compiler = format!("rust:{}-", version.trim_matches('"'));
    assert!(build.iter().any(|(word, rest)| word == "FROM" && rest.starts_with(&compiler)));
    assert!(cargo.contains("[profile.dist]"));
}

#[test]
fn o5_all_that_is_compiled_goes_into_the_build_of_the_image() {
    let ignored = read("deploy/Dockerfile.dockerignore");
    let allowed: BTreeSet<&str> =
        ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let cargo = read("Cargo.toml");
    let members = cargo.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let members = members.trim_end_matches(']').split(", ").map(|name| name.trim_matches('"'));
    for needed in members.chain(["Cargo.toml", "Cargo.lock", "src"]) {
        assert!(allowed.contains(needed), "{needed} does not reach the build");
    }
}
