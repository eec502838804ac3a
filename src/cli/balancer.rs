//! Configurations for balancers: the files of `deploy/`, for the nodes that are there.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use super::client::{Client, Request};
use super::failure::Failure;
use super::terminal::Terminal;

const NGINX: &str = include_str!("lb/nginx.conf");
const HAPROXY: &str = include_str!("lb/haproxy.cfg");
const NGINX_AFFINITY: &str = include_str!("lb/nginx-affinity.conf");
const HAPROXY_AFFINITY: &str = include_str!("lb/haproxy-affinity.cfg");

/// A node as a balancer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Backend {
    name: String,
    address: String,
}

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    let node = || {
        Arg::new("node").long("node").value_name("HOST:PORT").action(ArgAction::Append).value_delimiter(',').help(
            "Public port of a node; can be said several times. Without it the nodes of the cluster are asked for",
        )
    };
    let affinity = || {
        Arg::new("affinity").long("affinity").action(ArgAction::SetTrue).help(
            "Each session goes to one node as long as that is there, instead of to all in turn",
        )
    };
    let command = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).arg(node()).arg(affinity())
    };
    vec![
        ("lb nginx", command("nginx", "Prints a configuration for nginx")),
        ("lb haproxy", command("haproxy", "Prints a configuration for HAProxy")),
    ]
}

/// Prints the configuration for `nginx` or `haproxy`; the cluster is only asked when no node was named.
pub(super) async fn print(
    kind: &str,
    typed: &ArgMatches,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let template = match (kind == "nginx", typed.get_flag("affinity")) {
        (true, false) => NGINX,
        (true, true) => NGINX_AFFINITY,
        (false, false) => HAPROXY,
        (false, true) => HAPROXY_AFFINITY,
    };
    let backends = match typed.get_many::<String>("node") {
        Some(addresses) => named(addresses.map(String::as_str))?,
        None => of_cluster(&client.json(&Request::get("/v1/nodes")).await?)?,
    };
    terminal.pass_on(filled(template, &backends).as_bytes())?;
    terminal.flush()?;
    Ok(0)
}

/// Repeats each line that names a node, for each of them.
fn filled(template: &str, backends: &[Backend]) -> String {
    let mut text = String::new();
    for line in template.lines() {
        if line.contains("{{address}}") {
            for Backend { name, address } in backends {
                text.push_str(&line.replace("{{name}}", name).replace("{{address}}", address));
                text.push('\n');
            }
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn named<'a>(addresses: impl Iterator<Item = &'a str>) -> Result<Vec<Backend>, Failure> {
    let mut backends = Vec::new();
    for address in addresses.map(str::trim) {
        let (host, _) = parts(address).ok_or_else(|| {
            Failure::Usage(format!(
                "--node must be host:port, such as node-a:8080; `{address}` is not"
            ))
        })?;
        add(&mut backends, name_from(host), address.to_owned());
    }
    Ok(backends)
}

/// The nodes that the cluster knows, also those that are away for a moment.
fn of_cluster(answer: &Value) -> Result<Vec<Backend>, Failure> {
    let mut backends = Vec::new();
    for node in answer["nodes"].as_array().into_iter().flatten() {
        let text = |name: &str| node["record"][name].as_str().unwrap_or_default();
        let name = text("id").split('#').next().unwrap_or_default();
        let Some(address) = reachable(text("public_addr"), text("host")) else { continue };
        add(&mut backends, name_from(name), address);
    }
    match backends.is_empty() {
        true => Err(Failure::CameToNothing(
            "the cluster names no node with a public port; say them with --node host:port"
                .to_owned(),
        )),
        false => Ok(backends),
    }
}

/// A node that listens on all addresses is reached by the name of its host.
fn reachable(address: &str, host: &str) -> Option<String> {
    let (named, port) = parts(address)?;
    let everywhere = matches!(named, "0.0.0.0" | "[::]");
    let address = if everywhere { format!("{host}:{port}") } else { address.to_owned() };
    parts(&address).map(|_| address.clone())
}

/// Host and port; what could break out of a line of configuration is neither.
fn parts(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)?.parse().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    (port > 0 && !host.is_empty() && (is_ipv6 || host.bytes().all(plain))).then_some((host, port))
}

fn name_from(text: &str) -> String {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    text.chars().map(|character| if allowed(character) { character } else { '-' }).collect()
}

/// Adds a backend; one address is listed once, and a name that is taken is made another.
fn add(backends: &mut Vec<Backend>, name: String, address: String) {
    if backends.iter().any(|known| known.address == address) {
        return;
    }
    let is_taken = backends.iter().any(|known| known.name == name);
    let name = if is_taken { name_from(&address) } else { name };
    backends.push(Backend { name, address });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shipped(file: &str) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/");
        std::fs::read_to_string(format!("{path}{file}")).expect("deploy/ has it")
    }

    #[test]
    fn what_is_printed_is_what_lies_in_deploy() {
        let nodes = named(["node-a:8080", "node-b:8080", "node-c:8080"].into_iter()).unwrap();
        assert_eq!(filled(NGINX, &nodes), shipped("nginx.conf"));
        assert_eq!(filled(HAPROXY, &nodes), shipped("haproxy.cfg"));
        assert_eq!(filled(NGINX_AFFINITY, &nodes), shipped("nginx-affinity.conf"));
        assert_eq!(filled(HAPROXY_AFFINITY, &nodes), shipped("haproxy-affinity.cfg"));
    }

    #[test]
    fn a_node_is_reached_by_what_it_says_or_by_its_host() {
        let node = |id: &str, host: &str, address: &str| json!({ "record": { "id": format!("{id}#0000000000000001"), "host": host, "public_addr": address } });
        let answer = json!({ "nodes": [
            node("a", "host-1", "0.0.0.0:8080"),
            node("b", "host-2", "10.0.0.2:8081"),
            node("c", "host-3", "[::]:8082"),
            node("old", "host-2", "10.0.0.2:8081"),
            node("evil", "x; }", "0.0.0.0:1"),
            node("none", "host-4", ""),
        ] });
        let backends = of_cluster(&answer).unwrap();
        let told: Vec<_> =
            backends.iter().map(|one| (one.name.as_str(), one.address.as_str())).collect();
        assert_eq!(told, [("a", "host-1:8080"), ("b", "10.0.0.2:8081"), ("c", "host-3:8082")]);
        assert_eq!(of_cluster(&json!({ "nodes": [] })).unwrap_err().status(), 1);
    }

    #[test]
    fn nodes_on_one_host_have_names_of_their_own() {
        let nodes = named(["127.0.0.1:8081", "127.0.0.1:8082", "[::1]:8083"].into_iter()).unwrap();
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["127.0.0.1", "127.0.0.1-8082", "---1-"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "node-a", "node-a:", ":8080", "a:b:c", "a:0", "a:70000", "a b:1", "a;}:1", "[x]:1",
            "a:+1",
        ] {
            let failure = named([wrong].into_iter()).unwrap_err();
            assert_eq!(failure.status(), 64, "{wrong}");
        }
    }
}
