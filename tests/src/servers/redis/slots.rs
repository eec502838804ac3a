//! Three primaries that share the slots of a Redis Cluster.
//!
//! The same steps as `redis-cli --cluster create`, but with a bus port that is chosen like any other:
//! the usual port + 10,000 may be taken, or above 65,535.

use super::server::{Access, Server};
use super::{START_LIMIT, patiently};

const RANGES: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
const LINES: [&str; 4] = [
    "cluster-enabled yes",
    "cluster-config-file nodes.conf",
    "cluster-node-timeout 1500",
    "cluster-port {free port}",
];

/// Starts three servers and makes them meet.
pub(super) async fn create(lines: &[String], access: &Access) -> Vec<Server> {
    let mut lines = lines.to_vec();
    lines.extend(LINES.map(str::to_owned));
    let mut servers = Vec::new();
    for (number, (first, last)) in RANGES.iter().enumerate() {
        let server = Server::create("cluster", &lines, access).await;
        server.cli(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        server.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        servers.push(server);
    }
    for other in &servers[1..] {
        let bus = other.cli(&["CONFIG", "GET", "cluster-port"]);
        let bus = bus.lines().last().unwrap_or_default();
        servers[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), bus]);
    }
    servers
}

/// Waits until each server sees all slots served and none of the others failing, and all accept
/// writes: a server that has just come back refuses them for 2 s although its own view is whole.
pub(super) async fn ready(servers: &[Server]) {
    patiently("the cluster is whole", START_LIMIT, || {
        servers.iter().all(is_whole) && accepts_writes(&servers[0])
    })
    .await;
}

fn is_whole(server: &Server) -> bool {
    let info = server.try_cli(&["CLUSTER", "INFO"]).unwrap_or_default();
    let nodes = server.try_cli(&["CLUSTER", "NODES"]).unwrap_or_default();
    let all_met = info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
    all_met && !nodes.contains("fail") && !nodes.contains("handshake")
}

fn accepts_writes(any: &Server) -> bool {
    // One key in each range: slots 3300, 7365 and 15495.
    let keys = ["harness:{b}", "harness:{c}", "harness:{a}"];
    keys.iter().all(|key| any.try_cli(&["SET", key, "1", "PX", "1"]).is_ok())
}

/// Moves a slot with all its keys from the server that has it to another one, in the steps of
/// `redis-cli --cluster reshard`; returns how many keys went.
pub(super) fn move_slot(servers: &[Server], slot: &str) -> usize {
    let holds = |server: &&Server| server.cli(&["CLUSTER", "COUNTKEYSINSLOT", slot]) != "0";
    let from = servers.iter().find(holds).expect("there is a key in the slot");
    let to = servers.iter().find(|server| server.port() != from.port()).expect("there are three");
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    to.cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]);
    from.cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]);
    let (port, mut moved) = (to.port().to_string(), 0);
    loop {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", slot, "10"]);
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        let mut migrate = vec!["MIGRATE", "127.0.0.1", port.as_str(), "", "0", "5000", "KEYS"];
        migrate.extend(&keys);
        from.cli(&migrate);
        moved += keys.len();
    }
    // First the one that takes it, so that there is no moment without an owner.
    for server in [to, from].into_iter().chain(servers) {
        server.cli(&["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
    moved
}
