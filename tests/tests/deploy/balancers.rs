//! Whether nginx and HAProxy accept the files that are shipped for them, and that the pairs say the same.

use std::process::Command;
use std::time::Duration;

use understudy_tests::servers::{Scratch, find_program, run};

use super::files::{project, read};

const LIMIT: Duration = Duration::from_secs(20);

/// The lines of a file of HAProxy from a head to the next empty line, without comments.
fn section<'a>(config: &'a str, head: &str) -> Vec<&'a str> {
    let lines = config.lines().skip_while(|line| *line != head).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' ') || line.is_empty());
    let lines = lines.map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn h8_haproxy_accepts_all_files() {
    for file in ["haproxy.cfg", "haproxy-affinity.cfg", "haproxy-local.cfg"] {
        let mut text = read(&format!("deploy/{file}"));
        // Whoever runs the tests may have no such user.
        text = text.replace("    user haproxy\n", "").replace("    group haproxy\n", "");
        let folder = Scratch::new("haproxy-check");
        std::fs::write(folder.join(file), text).unwrap();
        let mut haproxy = Command::new(find_program("haproxy"));
        haproxy.arg("-c").arg("-f").arg(folder.join(file));
        run(&mut haproxy, LIMIT).unwrap_or_else(|complaint| panic!("{file}: {complaint}"));
    }
}

#[test]
fn h8_nginx_accepts_all_files() {
    for file in ["nginx.conf", "nginx-affinity.conf", "nginx-local.conf"] {
        let folder = Scratch::new("nginx-check");
        std::fs::create_dir_all(folder.join("nginx-temp")).unwrap();
        let mut text = read(&format!("deploy/{file}"));
        // Names of an example, which nginx would look up; and what only root may write to.
        for node in ["node-a", "node-b", "node-c"] {
            text = text.replace(node, "127.0.0.1");
        }
        if file != "nginx-local.conf" {
            let root = folder.path().display();
            text = format!("pid {root}/pid;\nerror_log stderr;\n{text}")
                .replace("listen 80;", "listen 127.0.0.1:18080;");
            let mut temporary = format!("http {{\naccess_log {root}/access.log;\n");
            for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                temporary += &format!("{kind}_temp_path {root}/{kind};\n");
            }
            text = text.replace("http {\n", &temporary);
        }
        std::fs::write(folder.join(file), text).unwrap();
        let mut nginx = Command::new(find_program("nginx"));
        nginx.current_dir(folder.path()).args(["-t", "-p", ".", "-c"]).arg(folder.join(file));
        run(&mut nginx, LIMIT).unwrap_or_else(|complaint| panic!("{file}: {complaint}"));
    }
}

#[test]
fn the_file_of_haproxy_for_one_machine_says_the_same_as_the_one_that_is_tested() {
    let (sample, local) = (read("deploy/haproxy.cfg"), read("deploy/haproxy-local.cfg"));
    for head in ["frontend web", "backend ready_nodes", "backend all_nodes"] {
        // Where the nodes are is what differs, and how their names are found; how they are treated is not.
        let treated = |config: &str| -> Vec<String> {
            let lines = section(config, head).into_iter().filter(|line| !line.starts_with("bind "));
            lines
                .filter_map(|line| {
                    let words: Vec<&str> = line.split(' ').collect();
                    let line = match words.as_slice() {
                        ["server", name, _] => format!("server {name}"),
                        _ => line.split(" init-addr ").next().unwrap_or_default().to_owned(),
                    };
                    (line != "default-server").then_some(line)
                })
                .collect()
        };
        assert!(treated(&sample).len() >= 5, "{head} is there");
        assert_eq!(treated(&local), treated(&sample), "{head}");
    }
}

#[test]
fn both_balancers_know_the_same_nodes_and_the_page_names_all_files() {
    let page = read("docs/deployment.md");
    for file in [
        "nginx.conf",
        "nginx-affinity.conf",
        "nginx-local.conf",
        "haproxy.cfg",
        "haproxy-affinity.cfg",
        "haproxy-local.cfg",
    ] {
        assert!(project().join("deploy").join(file).is_file());
        assert!(page.contains(file), "docs/deployment.md does not name {file}");
    }
    for node in ["node-a:8080", "node-b:8080", "node-c:8080"] {
        for file in ["nginx.conf", "nginx-affinity.conf", "haproxy.cfg", "haproxy-affinity.cfg"] {
            assert!(read(&format!("deploy/{file}")).contains(node), "{file}: {node}");
        }
    }
}
