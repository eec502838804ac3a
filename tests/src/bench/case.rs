//! The lines of the table: what is asked of whom.

use rand::seq::SliceRandom as _;

use super::load::{Line, Visitor};
use super::stage::{Site, Stage};

/// Clients of the steady cases.
pub(super) const CLIENTS: usize = 64;
/// Clients that share the one session of a hammered case.
pub(super) const HAMMERS: usize = 32;
/// Increments of a hammered session.
pub(super) const INCREMENTS: u64 = 6_400;
/// Bytes that each session holds besides its counter.
pub(super) const STATE: usize = 1_000;

/// One way to treat a session, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// A node, a route that asks for no session.
    Floor,
    /// The same without a node: actix-web alone.
    Bare,
    /// A read at the owner.
    Read,
    /// An increment at the owner.
    Write,
    /// A read at a node that is not the owner.
    ReadElsewhere,
    /// An increment at a node that is not the owner.
    WriteElsewhere,
    /// An increment of a child of the session, at the owner of both.
    WriteChild,
    /// A read with actix-session.
    ActixRead,
    /// An increment with actix-session.
    ActixWrite,
    /// One GET of 1 KB.
    FredGet,
    /// One EVALSHA of a script that increments.
    FredEvalsha,
    /// One session, incremented by all clients through its owner.
    Hammer,
    /// The same through two nodes in turn.
    HammerTwo,
    /// The same with actix-session, which loses updates.
    ActixHammer,
    /// One key, incremented by all clients with a script.
    LuaHammer,
}

impl Case {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Floor,
        Self::Bare,
        Self::Read,
        Self::ActixRead,
        Self::FredGet,
        Self::Write,
        Self::WriteChild,
        Self::ActixWrite,
        Self::FredEvalsha,
        Self::ReadElsewhere,
        Self::WriteElsewhere,
        Self::Hammer,
        Self::HammerTwo,
        Self::LuaHammer,
        Self::ActixHammer,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor: node, no session",
            Self::Bare => "actix-web alone",
            Self::Read => "read at the owner",
            Self::Write => "write at the owner",
            Self::WriteChild => "write of a child at the owner",
            Self::ReadElsewhere => "read elsewhere",
            Self::WriteElsewhere => "write elsewhere",
            Self::ActixRead => "actix-session read",
            Self::ActixWrite => "actix-session write",
            Self::FredGet => "fred, one GET",
            Self::FredEvalsha => "fred, one EVALSHA",
            Self::Hammer => "one session, 32 clients",
            Self::HammerTwo => "… through two nodes",
            Self::LuaHammer => "one key, Lua, 32 clients",
            Self::ActixHammer => "actix-session, 32 clients",
        }
    }

    /// Whether all clients share one session.
    pub fn is_hammered(self) -> bool {
        matches!(self, Self::Hammer | Self::HammerTwo | Self::LuaHammer | Self::ActixHammer)
    }

    /// Who serves it, the server that requests go to first.
    pub fn sites(self, stage: &Stage) -> Vec<Site> {
        match self {
            Self::Floor | Self::Read | Self::Write | Self::WriteChild | Self::Hammer => {
                vec![stage.node(0)]
            }
            Self::ReadElsewhere | Self::WriteElsewhere => vec![stage.node(1), stage.node(0)],
            Self::HammerTwo => vec![stage.node(0), stage.node(1)],
            Self::Bare => vec![stage.bare.site()],
            Self::ActixRead | Self::ActixWrite | Self::ActixHammer => {
                vec![stage.actix_session.site()]
            }
            Self::FredGet | Self::FredEvalsha | Self::LuaHammer => vec![stage.fred.site()],
        }
    }
}

/// Sessions made ready, and the clients that will use them.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The clients.
    pub visitors: Vec<Visitor>,
    /// Where the counter of a hammered session can be read, and the request for it.
    pub counter: Option<(Site, String, Option<String>)>,
}

/// Makes new sessions for one measurement.
pub(super) async fn prepare(case: Case, stage: &Stage) -> Prepared {
    let sites = case.sites(stage);
    match case {
        Case::Floor | Case::Bare => {
            // With the cookie of a session, as a browser sends it, so that the requests of the floor are
            // as long as those that are compared with it.
            let cookie = session(stage.node(0)).await;
            let visitor = vec![Line::new(sites[0].address, "GET /nothing", Some(&cookie))];
            Prepared { visitors: vec![visitor; CLIENTS], counter: None }
        }
        Case::FredGet | Case::FredEvalsha | Case::LuaHammer => keys(case, sites[0]).await,
        Case::Read | Case::Write | Case::WriteChild | Case::ActixRead | Case::ActixWrite => {
            sessions(case, sites[0], sites[0]).await
        }
        // Born at the second site, which thereby owns them.
        Case::ReadElsewhere | Case::WriteElsewhere => sessions(case, sites[1], sites[0]).await,
        Case::Hammer | Case::HammerTwo | Case::ActixHammer => one_session(&sites).await,
    }
}

fn is_read(case: Case) -> bool {
    matches!(case, Case::Read | Case::ReadElsewhere | Case::ActixRead | Case::FredGet)
}

async fn sessions(case: Case, born: Site, asked: Site) -> Prepared {
    let line = if is_read(case) {
        "GET /read"
    } else if case == Case::WriteChild {
        "POST /child/incr?name=basket"
    } else {
        "POST /incr"
    };
    let mut visitors = Vec::new();
    for _ in 0..CLIENTS {
        let cookie = session(born).await;
        visitors.push(vec![Line::new(asked.address, line, Some(&cookie))]);
    }
    // A server deals new connections out to its workers in turn; who comes back must not always meet
    // the worker that saw the session first, nor always another one.
    visitors.shuffle(&mut rand::rng());
    Prepared { visitors, counter: None }
}

/// Makes a session with a counter and 1 KB, over one connection as a browser would; returns its cookie.
pub(super) async fn session(born: Site) -> String {
    let mut browser = born.connect().await;
    let first = browser.answer(&fill("blob"), None).await.expect("the server answers");
    let cookie = first.cookie.expect("the first write begins a session");
    let second = browser.answer("POST /incr", Some(&cookie)).await.expect("the server answers");
    assert!(second.status < 300, "{second:?}");
    cookie
}

/// The request that puts 1 KB into a session, or under a key.
pub(super) fn fill(key: &str) -> String {
    format!("POST /set?k={key}&v={}", "x".repeat(STATE))
}

async fn one_session(sites: &[Site]) -> Prepared {
    let cookie = session(sites[0]).await;
    let cookie = Some(cookie.as_str());
    let visitors = (0..HAMMERS).map(|number| {
        // Half of the clients begin at each site.
        let sites = sites.iter().cycle().skip(number).take(sites.len());
        sites.map(|site| Line::new(site.address, "POST /incr", cookie)).collect()
    });
    Prepared {
        visitors: visitors.collect(),
        counter: Some((sites[0], "GET /read".to_owned(), cookie.map(str::to_owned))),
    }
}

/// What fred is asked for needs no session, only keys.
async fn keys(case: Case, site: Site) -> Prepared {
    let run: u64 = rand::random();
    let clients = if case.is_hammered() { HAMMERS } else { CLIENTS };
    let mut visitors = Vec::new();
    for number in 0..clients {
        let key = if case.is_hammered() { 0 } else { number };
        let key = format!("bench:{run}:{key}");
        let line = if is_read(case) {
            site.ask(&fill(&key), None).await;
            format!("GET /read?k={key}")
        } else {
            format!("POST /incr?k={key}")
        };
        visitors.push(vec![Line::new(site.address, &line, None)]);
    }
    // The counter is told by one more increment.
    let counter = format!("POST /incr?k=bench:{run}:0");
    Prepared { visitors, counter: case.is_hammered().then_some((site, counter, None)) }
}
