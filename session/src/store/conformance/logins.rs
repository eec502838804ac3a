//! Random logins: whatever is left half-way, and in whichever order, a session that somebody can use is on the roll.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Fixture;
use super::bench::{Bench, Owned, node, set};
use crate::record::{Change, Locator};
use crate::store::register::{
    Condemn, Confirmed, Enrolled, Listed, Place, Progress, Sight, is_vain,
};
use crate::store::{End, WriteReply};

/// How many users there are; few, so that they meet.
const USERS: usize = 3;
/// Most sessions at a time.
const SESSIONS: usize = 12;
/// Most sessions of a user, for those logins that are limited.
const MOST: u32 = 3;

/// A session, and what its client knows.
#[derive(Debug)]
struct Client {
    owned: Owned,
    /// Who was told that they are logged in, and has the cookie.
    user: Option<usize>,
    login: Option<Login>,
}

/// A login under way.
#[derive(Debug)]
struct Login {
    user: usize,
    place: Place,
    again: bool,
    written: bool,
}

/// What somebody is about to strike off, and has seen a while ago.
#[derive(Debug)]
struct Tidying {
    user: usize,
    vain: Vec<Listed>,
}

struct World<'a> {
    bench: Bench<'a>,
    users: Vec<String>,
    clients: Vec<Client>,
    tidying: Vec<Tidying>,
    random: StdRng,
}

pub(super) async fn compare(fixture: &dyn Fixture, seed: u64, steps: usize, leap: Duration) {
    let bench = Bench::new(fixture);
    let users = (0..USERS).map(|_| bench.user()).collect();
    let random = StdRng::seed_from_u64(seed);
    let mut world = World { bench, users, clients: Vec::new(), tidying: Vec::new(), random };
    for step in 0..steps {
        let what = world.step(leap).await;
        world.check(&format!("step {step} of seed {seed}: {what}")).await;
    }
    world.settle(leap).await;
}

impl World<'_> {
    async fn step(&mut self, leap: Duration) -> String {
        let at = self.random.random_range(0..SESSIONS);
        if at >= self.clients.len() {
            let owned = self.bench.session(&node("a")).await;
            self.clients.push(Client { owned, user: None, login: None });
            return "a session begins".to_owned();
        }
        match self.random.random_range(0..20_u8) {
            0..=9 => self.go_on(at).await,
            10 => self.fail(at).await,
            11 => {
                // Its node died: whatever was written, nobody got the new cookie, and the old one opens nothing.
                match self.clients[at].login.take() {
                    Some(login) if login.written => drop(self.clients.remove(at)),
                    Some(_) | None => {}
                }
                "a node dies".to_owned()
            }
            12 => {
                let client = self.clients.remove(at);
                self.end(client.owned.locator).await;
                "a logout".to_owned()
            }
            13..=14 => self.begin_to_tidy().await,
            15..=16 => self.go_on_tidying().await,
            17 => self.end_user().await,
            18 => self.make_room().await,
            _ => {
                self.bench.fixture.pass(leap).await;
                "time passes".to_owned()
            }
        }
    }

    fn a_user(&mut self) -> usize {
        self.random.random_range(0..USERS)
    }

    async fn end(&self, locator: Locator) {
        self.bench.store.revoke(locator, End::Asked).await.expect("revoke answers");
    }

    /// Takes the next step of a login, or begins one.
    async fn go_on(&mut self, at: usize) -> String {
        let user = self.a_user();
        let limited = self.random.random_bool(0.3);
        let locator = self.clients[at].owned.locator;
        let Some(login) = &mut self.clients[at].login else {
            let most = limited.then_some(MOST);
            let enrolled = self.bench.enroll(&self.users[user], locator, most).await;
            if let Enrolled::In { place, again } = enrolled {
                let login = Login { user, place, again, written: false };
                self.clients[at].login = Some(login);
            }
            return format!("user {user} enrolls {at}: {enrolled:?}");
        };
        if !login.written {
            login.written = true;
            return self.write(at).await;
        }
        let Some(login) = self.clients[at].login.take() else { unreachable!("it is there") };
        let confirmed = self.bench.confirm(&self.users[login.user], locator).await;
        match confirmed {
            Confirmed::Stands { .. } => self.clients[at].user = Some(login.user),
            Confirmed::Lost => {
                self.clients.remove(at);
                self.end(locator).await;
            }
        }
        format!("user {} confirms {at}: {confirmed:?}", login.user)
    }

    /// Changes the record: from here on the old cookie opens nothing.
    async fn write(&mut self, at: usize) -> String {
        let Some(login) = &self.clients[at].login else { unreachable!("it is there") };
        let user: &str = &self.users[login.user];
        let change = Change { user: Some(Some(user.into())), ..set("n", "1") };
        let op_id = crate::record::OpId::random();
        let client = &mut self.clients[at];
        let reply = self.bench.write(&client.owned, &change, op_id).await;
        match reply {
            WriteReply::Written { .. } => {
                client.owned.record = client.owned.after(&change, op_id);
                client.user = None;
                format!("the record of {at} is written")
            }
            // Somebody ended it; nothing was carried out.
            WriteReply::Revoked | WriteReply::Missing => {
                let client = self.clients.remove(at);
                if let Some(login) = client.login {
                    self.withdraw(&login).await;
                }
                format!("{at} is over")
            }
            other => panic!("nobody else writes: {other:?}"),
        }
    }

    async fn withdraw(&self, login: &Login) {
        if !login.again {
            let listed = [(login.place, Progress::Begun)];
            let user = &self.users[login.user];
            self.bench.store.strike(user, &listed).await.expect("strike answers");
        }
    }

    /// A login that was not written fails.
    async fn fail(&mut self, at: usize) -> String {
        if let Some(login) = self.clients[at].login.take_if(|login| !login.written) {
            self.withdraw(&login).await;
        }
        "a login fails".to_owned()
    }

    /// Looks at a roll; strikes off later what was vain then.
    async fn begin_to_tidy(&mut self) -> String {
        let user = self.a_user();
        let name = &self.users[user];
        let roll = self.bench.store.roll(name).await.expect("roll answers");
        let locators: Vec<Locator> = roll.places.iter().map(|(place, _)| place.locator).collect();
        let sights = self.bench.store.look(&locators).await.expect("look answers");
        let seen = roll.places.iter().zip(&sights);
        let vain = seen.filter(|(listed, sight)| is_vain(**listed, name, sight, roll.now_ms));
        let vain: Vec<Listed> = vain.map(|(listed, _)| *listed).collect();
        let what = format!("somebody finds {} vain", vain.len());
        self.tidying.push(Tidying { user, vain });
        what
    }

    async fn go_on_tidying(&mut self) -> String {
        if let Some(Tidying { user, vain }) = self.tidying.pop() {
            self.bench.store.strike(&self.users[user], &vain).await.expect("strike answers");
        }
        "and strikes it off".to_owned()
    }

    async fn end_user(&mut self) -> String {
        let user = self.a_user();
        self.carry_out(user, Condemn::All).await;
        format!("all of {user} end")
    }

    async fn make_room(&mut self) -> String {
        let user = self.a_user();
        self.carry_out(user, Condemn::Beyond(MOST)).await;
        format!("room is made for {user}")
    }

    /// Ends what is condemned, unless it is another's by now; then strikes it off.
    async fn carry_out(&mut self, user: usize, which: Condemn) {
        let name = self.users[user].clone();
        let condemned = self.bench.store.condemn(&name, which).await.expect("condemn answers");
        for place in condemned {
            let sight = self.bench.look(place.locator).await;
            if !sight.is_of_another(&name) {
                self.end(place.locator).await;
                self.clients.retain(|client| {
                    client.owned.locator != place.locator || client.login.is_some()
                });
                for client in &mut self.clients {
                    if client.owned.locator == place.locator {
                        client.user = None;
                    }
                }
            }
            let listed = [(place, Progress::Condemned)];
            self.bench.store.strike(&name, &listed).await.expect("strike answers");
        }
    }

    /// The promise: whoever has a cookie is on the roll, and each record says what its client was told.
    async fn check(&self, what: &str) {
        let mut rolls = Vec::new();
        for user in &self.users {
            rolls.push(self.bench.roll(user).await);
        }
        for client in &self.clients {
            let Some(user) = client.user else { continue };
            let locator = client.owned.locator;
            let listed = rolls[user].iter().any(|(place, _)| place.locator == locator);
            assert!(listed, "{what}: a session that is used is not on the roll");
            let sight = self.bench.look(locator).await;
            assert!(sight.of_user(&self.users[user]).is_some(), "{what}: {sight:?}");
        }
    }

    /// When nothing is under way any more and everything is old, the rolls are exactly what the records say.
    async fn settle(&mut self, leap: Duration) {
        for client in &mut self.clients {
            client.login = None;
        }
        self.bench.fixture.pass(leap).await;
        for user in 0..USERS {
            let name = self.users[user].clone();
            self.carry_out(user, Condemn::Beyond(u32::MAX)).await;
            self.tidying.clear();
            while !matches!(self.tidying.last(), Some(tidying) if tidying.user == user) {
                self.begin_to_tidy().await;
            }
            self.go_on_tidying().await;
            for (place, _) in self.bench.roll(&name).await {
                let sight = self.bench.look(place.locator).await;
                let young = leap.is_zero() && sight != Sight::Gone;
                let theirs = sight.of_user(&name).is_some();
                assert!(theirs || young || leap.is_zero(), "{place:?} is in vain: {sight:?}");
            }
        }
    }
}
