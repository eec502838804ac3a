//! Redis in the four ways it is run: standalone, TLS, replicas with Sentinel, Cluster.

mod builder;
mod certificates;
mod sentinel;
mod server;
mod slots;

use std::collections::BTreeMap;
use std::time::Duration;

pub use builder::RedisBuilder;
pub use server::Server;

use certificates::Clients;
use sentinel::Sentinel;
use server::Access;

use super::process::Signal;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(20);

/// How Redis is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topology {
    /// One server.
    Standalone,
    /// One server that speaks nothing but TLS, with a certificate of its own authority.
    Tls,
    /// A primary, replicas and three sentinels.
    Sentinel,
    /// Three primaries that share the slots.
    Cluster,
}

impl Topology {
    /// All of them, for a suite that runs over each.
    pub const ALL: [Self; 4] = [Self::Standalone, Self::Tls, Self::Sentinel, Self::Cluster];
}

/// What a restart does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// It is there again; needs [`RedisBuilder::append_only`].
    Kept,
    /// The server comes back empty.
    Lost,
}

/// A running Redis; everything of it is killed on drop.
#[derive(Debug)]
pub struct Redis {
    topology: Topology,
    user: Option<(String, String, String)>,
    append_only: bool,
    servers: Vec<Server>,
    sentinels: Vec<Sentinel>,
    access: Access,
}

impl Redis {
    /// Options for this topology.
    pub fn builder(topology: Topology) -> RedisBuilder {
        RedisBuilder::new(topology)
    }

    /// Starts this topology with the usual options.
    pub async fn start(topology: Topology) -> Self {
        Self::builder(topology).start().await
    }

    /// Starts one server.
    pub async fn standalone() -> Self {
        Self::start(Topology::Standalone).await
    }

    /// Starts one server that speaks TLS only.
    pub async fn tls() -> Self {
        Self::start(Topology::Tls).await
    }

    /// Starts a primary, a replica and three sentinels.
    pub async fn sentinel() -> Self {
        Self::start(Topology::Sentinel).await
    }

    /// Starts three primaries as a Redis Cluster.
    pub async fn cluster() -> Self {
        Self::start(Topology::Cluster).await
    }

    /// How it is run.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// The address as a node takes it in `UNDERSTUDY_REDIS_URL`, with the user and password.
    pub fn url(&self) -> String {
        let credentials = match (&self.user, &self.access.password) {
            (Some((name, password, _)), _) => format!("{name}:{password}@"),
            (None, Some(password)) => format!("default:{password}@"),
            (None, None) => String::new(),
        };
        let ports: Vec<u16> = match self.topology {
            Topology::Sentinel => self.sentinels.iter().map(Sentinel::port).collect(),
            Topology::Standalone | Topology::Tls | Topology::Cluster => {
                self.servers.iter().map(Server::port).collect()
            }
        };
        let mut more: Vec<String> =
            ports[1..].iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
        let scheme = match self.topology {
            Topology::Standalone => "redis",
            Topology::Tls => "rediss",
            Topology::Sentinel => {
                more.push(format!("sentinelServiceName={}", sentinel::SERVICE));
                "redis-sentinel"
            }
            Topology::Cluster => "redis-cluster",
        };
        let query = if more.is_empty() { String::new() } else { format!("?{}", more.join("&")) };
        format!("{scheme}://{credentials}127.0.0.1:{}{query}", ports[0])
    }

    /// The variables that lead a node here: the URL, with TLS the authority of the certificate, and
    /// the node's own certificate if the server demands one.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![("UNDERSTUDY_REDIS_URL".to_owned(), self.url())];
        if let Some(certificates) = &self.access.certificates {
            let authority = certificates.authority().display().to_string();
            variables.push(("UNDERSTUDY_REDIS_TLS_CA_FILE".to_owned(), authority));
            if certificates.clients() == Clients::Certified {
                let names = ["UNDERSTUDY_REDIS_TLS_CERT_FILE", "UNDERSTUDY_REDIS_TLS_KEY_FILE"];
                let files = certificates.client().map(|file| file.display().to_string());
                variables.extend(names.map(str::to_owned).into_iter().zip(files));
            }
        }
        variables
    }

    /// The data servers in the order of their start; with Sentinel, the first was the primary then.
    pub fn servers(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// The server that takes the writes now: the primary that the sentinels name, else the first.
    pub fn primary(&mut self) -> &mut Server {
        let port = self.primary_port();
        self.servers
            .iter_mut()
            .find(|server| server.port() == port)
            .expect("a server has this port")
    }

    /// Its port. Every running sentinel is asked until one answers.
    pub fn primary_port(&self) -> u16 {
        self.sentinels
            .iter()
            .find_map(Sentinel::primary_port)
            .unwrap_or_else(|| self.servers[0].port())
    }

    /// Kills all data servers. Sentinels live on, as they would on other machines.
    pub fn kill(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
    }

    /// Kills the primary only, so that the sentinels elect another.
    pub fn kill_primary(&mut self) {
        self.primary().kill();
    }

    /// Kills what still runs and starts all data servers again on their ports; waits until they
    /// accept writes.
    pub async fn restart(&mut self, data: Data) {
        assert!(
            data == Data::Lost || self.append_only,
            "a restart keeps the data only with .append_only()"
        );
        let primary = self.primary_port();
        for server in &mut self.servers {
            server.kill();
            if self.topology == Topology::Sentinel {
                // Else the sentinels take 8 s to demote one that was down during a failover.
                server.follow_from_start((server.port() != primary).then_some(primary));
            }
            if data == Data::Lost {
                server.forget_data();
            }
        }
        for server in &mut self.servers {
            server.start().await;
        }
        self.ready().await;
    }

    /// Stops all data servers where they are (SIGSTOP): connections stay open and silent.
    pub fn pause(&self) {
        self.servers.iter().for_each(|server| server.signal(Signal::STOP));
    }

    /// Lets them go on; what clients sent meanwhile is executed now.
    pub fn resume(&self) {
        self.servers.iter().for_each(|server| server.signal(Signal::CONT));
    }

    /// Makes the sentinels promote a replica while the old primary is alive; waits until they name
    /// another primary.
    pub async fn failover(&self) {
        let old = self.primary_port();
        let sentinel = self.sentinels.first().expect("a failover needs Topology::Sentinel");
        sentinel.cli(&["SENTINEL", "FAILOVER", sentinel::SERVICE]);
        self.new_primary(old, START_LIMIT).await;
    }

    /// Has the sentinels wait for so long from now on before they take a server for dead.
    pub fn down_after(&self, time: Duration) {
        let ms = time.as_millis().to_string();
        for sentinel in &self.sentinels {
            let set = ["SENTINEL", "SET", sentinel::SERVICE, "down-after-milliseconds", &ms];
            sentinel.cli(&set);
        }
    }

    /// Waits until the sentinels name another primary than the one on `old`; returns how long.
    pub async fn new_primary(&self, old: u16, limit: Duration) -> Duration {
        let changed = || self.primary_port() != old && self.role(self.primary_port()) == "master";
        patiently("the sentinels name another primary", limit, changed).await
    }

    /// Moves the slot of a key that exists to another server of the Cluster, while clients go on; returns how many keys
    /// went.
    pub fn move_slot_of(&self, key: &str) -> usize {
        assert!(self.topology == Topology::Cluster, "only a Cluster has slots");
        slots::move_slot(&self.servers, &self.cli(&["CLUSTER", "KEYSLOT", key]))
    }

    fn role(&self, port: u16) -> String {
        let server = self.servers.iter().find(|server| server.port() == port);
        let answer = server.map(|server| server.try_cli(&["ROLE"]).unwrap_or_default());
        answer.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    }

    /// Runs `redis-cli` as the default user at the primary (following redirections in a Cluster)
    /// and returns what it prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The same, with an error of the server as a value.
    ///
    /// # Errors
    /// What the server or `redis-cli` complained about.
    pub fn try_cli(&self, arguments: &[&str]) -> Result<String, String> {
        let port = self.primary_port();
        let server = self.servers.iter().find(|server| server.port() == port);
        server.ok_or("no server has the port of the primary")?.try_cli(arguments)
    }

    /// Calls of each command since the start or [`reset_commandstats`](Self::reset_commandstats),
    /// over all primaries (replicas repeat their writes); lower case names, `client|setname` for
    /// subcommands.
    pub fn commandstats(&self) -> BTreeMap<String, u64> {
        let mut total = BTreeMap::new();
        for server in self.primaries() {
            for line in server.cli(&["INFO", "commandstats"]).lines() {
                if let Some((command, calls)) = parse_commandstat(line) {
                    *total.entry(command).or_insert(0) += calls;
                }
            }
        }
        total
    }

    /// All servers that take writes.
    fn primaries(&self) -> impl Iterator<Item = &Server> {
        let only = (self.topology == Topology::Sentinel).then(|| self.primary_port());
        self.servers.iter().filter(move |server| only.is_none_or(|port| port == server.port()))
    }

    /// Begins to count anew.
    pub fn reset_commandstats(&self) {
        for server in &self.servers {
            server.cli(&["CONFIG", "RESETSTAT"]);
        }
    }

    /// All keys, sorted.
    pub fn all_keys(&self) -> Vec<String> {
        let scans = self.primaries().map(|server| server.cli(&["--scan"]));
        let mut keys: Vec<String> =
            scans.flat_map(|keys| keys.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        keys.sort();
        keys
    }

    /// Waits until writes are accepted everywhere.
    async fn ready(&self) {
        match self.topology {
            Topology::Standalone | Topology::Tls => {}
            Topology::Sentinel => sentinel::ready(&self.servers, &self.sentinels).await,
            Topology::Cluster => slots::ready(&self.servers).await,
        }
    }
}

/// Waits for something that `redis-cli` must tell: it costs a process to ask.
async fn patiently(what: &str, limit: Duration, condition: impl Fn() -> bool) -> Duration {
    let interval = Duration::from_millis(20);
    wait::poll(what, limit, interval, async || condition().then_some(())).await.1
}

/// `cmdstat_get:calls=3,usec=..` as `("get", 3)`.
fn parse_commandstat(line: &str) -> Option<(String, u64)> {
    let (command, figures) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
    let calls = figures.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
    Some((command.to_owned(), calls))
}

#[cfg(test)]
mod tests {
    use super::parse_commandstat;

    #[test]
    fn a_line_of_commandstats_is_read() {
        let line = "cmdstat_client|setname:calls=12,usec=3,usec_per_call=0.25,rejected_calls=0\r";
        assert_eq!(parse_commandstat(line), Some(("client|setname".to_owned(), 12)));
        assert_eq!(parse_commandstat("# Commandstats"), None);
    }
}
