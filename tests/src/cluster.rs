//! A whole cluster: Redis, PostgreSQL, nodes, and nginx before them.

use std::time::Duration;

use crate::{Nginx, Node, NodeSpec, Postgres, Program, Proxy, Redis, RedisBuilder, Topology};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// Options of a cluster to be started.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    nodes: usize,
    redis: RedisBuilder,
    nginx: bool,
    /// Another configuration than deploy/nginx.conf.
    nginx_config: Option<String>,
    proxies: bool,
    program: Program,
    environment: Vec<(String, String)>,
    /// Of single nodes, by their number.
    own_environment: Vec<(usize, String, String)>,
    allowed_errors: Vec<String>,
}

impl ClusterBuilder {
    /// How many nodes; 3 unless set.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// How Redis is run; standalone unless set.
    #[must_use]
    pub fn redis(self, topology: Topology) -> Self {
        self.redis_with(Redis::builder(topology))
    }

    /// How Redis is run, with its options.
    #[must_use]
    pub fn redis_with(mut self, redis: RedisBuilder) -> Self {
        self.redis = redis;
        self
    }

    /// Puts nginx with deploy/nginx.conf before the nodes.
    #[must_use]
    pub fn nginx(mut self, wanted: bool) -> Self {
        self.nginx = wanted;
        self
    }

    /// Puts nginx before the nodes with another configuration, as [`Nginx::with_config`] takes it.
    #[must_use]
    pub fn nginx_with(mut self, config: &str) -> Self {
        self.nginx_config = Some(config.to_owned());
        self.nginx(true)
    }

    /// Leads each node to Redis and PostgreSQL through proxies of its own, so that one node can be
    /// cut off. Only for standalone Redis: the other kinds tell clients their real addresses.
    #[must_use]
    pub fn proxies(mut self) -> Self {
        self.proxies = true;
        self
    }

    /// Which binary the nodes run; the fixture application unless set.
    #[must_use]
    pub fn program(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// Sets a variable of all nodes.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a variable of one node, by its number.
    #[must_use]
    pub fn node_env(mut self, node: usize, name: &str, value: &str) -> Self {
        self.own_environment.push((node, name.to_owned(), value.to_owned()));
        self
    }

    /// Lets all nodes log errors that contain this text.
    #[must_use]
    pub fn allow_error(mut self, text: &str) -> Self {
        self.allowed_errors.push(text.to_owned());
        self
    }

    /// Starts everything and waits until all nodes are ready.
    pub async fn start(self) -> Cluster {
        let (redis, postgres) = tokio::join!(self.redis.clone().start(), Postgres::start());
        let mut cluster = Cluster {
            nodes: Vec::new(),
            nginx: None,
            proxies: Vec::new(),
            redis,
            postgres,
            secret: format!("{:032x}", rand::random::<u128>()),
            builder: self,
        };
        let mut specs = Vec::new();
        for number in 0..cluster.builder.nodes {
            let name = format!("node-{}", char::from(b"abcdefghijklmnop"[number]));
            specs.push(cluster.spec(&name).await);
        }
        if cluster.builder.nginx {
            let ports: Vec<u16> = specs.iter().map(NodeSpec::public_port).collect();
            let nginx = match &cluster.builder.nginx_config {
                Some(config) => Nginx::with_config(config, &ports).await,
                None => Nginx::start(&ports).await,
            };
            cluster.nginx = Some(nginx);
        }
        let external = cluster.nginx.as_ref().map(Nginx::url);
        for (number, spec) in specs.into_iter().enumerate() {
            let own = format!("http://127.0.0.1:{}", spec.public_port());
            let external = external.clone().unwrap_or(own);
            let spec = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &external);
            // What the test sets comes last.
            let spec = spec.envs(cluster.builder.environment.clone());
            let of_this = cluster.builder.own_environment.iter().filter(|(of, ..)| *of == number);
            let spec = spec.envs(of_this.map(|(_, name, value)| (name.clone(), value.clone())));
            cluster.nodes.push(spec.start());
        }
        cluster.ready().await;
        cluster
    }
}

/// The proxies of one node.
#[derive(Debug)]
pub struct NodeProxies {
    /// Before Redis.
    pub redis: Proxy,
    /// Before PostgreSQL.
    pub postgres: Proxy,
}

/// A running cluster; everything of it is ended on drop.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: nodes before what they use.
    /// The nodes.
    pub nodes: Vec<Node>,
    /// nginx, if it was wanted.
    pub nginx: Option<Nginx>,
    /// One entry per node, if they were wanted.
    pub proxies: Vec<NodeProxies>,
    /// Redis.
    pub redis: Redis,
    /// PostgreSQL.
    pub postgres: Postgres,
    secret: String,
    builder: ClusterBuilder,
}

impl Cluster {
    /// Options: three nodes of the fixture application on a standalone Redis, without nginx.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            nodes: 3,
            redis: Redis::builder(Topology::Standalone),
            nginx: false,
            nginx_config: None,
            proxies: false,
            program: Program::Fixture,
            environment: Vec::new(),
            own_environment: Vec::new(),
            allowed_errors: Vec::new(),
        }
    }

    /// What every node of this cluster is started with; starts its proxies.
    pub async fn spec(&mut self, name: &str) -> NodeSpec {
        let mut spec = NodeSpec::new(name)
            .program(self.builder.program)
            .env("UNDERSTUDY_CLUSTER_ENABLED", "true")
            .env("UNDERSTUDY_SESSION_SECRET", &self.secret)
            .env("UNDERSTUDY_HTTP_TRUSTED_PROXIES", "127.0.0.1/32")
            .envs(self.redis.environment())
            .env("UNDERSTUDY_DATABASE_URL", &self.postgres.url());
        for error in &self.builder.allowed_errors {
            spec = spec.allow_error(error);
        }
        if self.builder.proxies { self.through_proxies(spec).await } else { spec }
    }

    async fn through_proxies(&mut self, spec: NodeSpec) -> NodeSpec {
        assert!(
            self.redis.topology() == Topology::Standalone,
            "proxies work only before a standalone Redis"
        );
        let (redis, postgres) = (self.redis.primary_port(), self.postgres.port());
        let proxies = NodeProxies {
            redis: Proxy::start(&format!("127.0.0.1:{redis}")).await,
            postgres: Proxy::start(&format!("127.0.0.1:{postgres}")).await,
        };
        let led =
            |url: String, from: u16, to: u16| url.replace(&format!(":{from}"), &format!(":{to}"));
        let redis_url = led(self.redis.url(), redis, proxies.redis.port());
        let database_url = led(self.postgres.url(), postgres, proxies.postgres.port());
        self.proxies.push(proxies);
        spec.env("UNDERSTUDY_REDIS_URL", &redis_url).env("UNDERSTUDY_DATABASE_URL", &database_url)
    }

    /// Waits until all nodes are ready.
    pub async fn ready(&mut self) {
        for node in &mut self.nodes {
            node.ready(READY_LIMIT).await;
        }
    }

    /// Where node number `index` serves its users.
    pub fn url(&self, index: usize) -> &str {
        self.nodes[index].public_url()
    }

    /// Where nginx serves the users of the cluster.
    pub fn balancer(&self) -> String {
        self.nginx.as_ref().expect("a cluster with .nginx(true)").url()
    }

    /// Kills a node (SIGKILL).
    pub fn kill9(&mut self, index: usize) {
        self.nodes[index].kill9();
    }

    /// Starts a node again, killing it if it still runs, and waits until it is ready.
    pub async fn restart(&mut self, index: usize) -> Duration {
        self.nodes[index].start_again();
        self.nodes[index].ready(READY_LIMIT).await
    }

    /// What Redis holds of a node, as `key field`: its leases, and its place in the list of nodes. Of a node that has
    /// left it holds nothing; what is left of one that died runs out.
    pub fn traces_of(&self, node: &str) -> Vec<String> {
        let lease = format!("n:{node}#");
        let tables = self.redis.all_keys().into_iter();
        let tables = tables.filter(|key| key.ends_with(":L") || key.ends_with(":nodes"));
        let traces = tables.flat_map(|key| {
            let fields = self.redis.cli(&["HKEYS", &key]);
            let own = fields.lines().filter(|field| *field == node || field.starts_with(&lease));
            own.map(|field| format!("{key} {field}")).collect::<Vec<String>>()
        });
        traces.collect()
    }

    /// Lets all nodes log errors that contain this text.
    pub fn allow_error(&mut self, text: &str) {
        self.nodes.iter_mut().for_each(|node| node.allow_error(text));
    }
}
