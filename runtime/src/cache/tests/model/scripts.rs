//! The server of the model beside the scripts, on a real Redis: the same is asked of both, in any order.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::server::{Entry, News, Part, Server, Taken};
use super::{Random, Rules, SEED};
use crate::cache::shared::{Forgotten, Found, News as Told, Place, Shared, Step, Wanted};
use crate::cache::tests::Seat;
use crate::redis::testing::RedisServer;

/// Later than anything here runs out, for Redis and in the model.
const LONG: Duration = Duration::from_secs(300);
const FAR: u64 = 1_000;
static TAGS: LazyLock<[Arc<str>; 1]> = LazyLock::new(|| [Arc::from("x")]);

fn wanted() -> Wanted<'static> {
    Wanted { key: "k", tags: TAGS.as_slice() }
}

/// A Redis and what is known of it.
struct Both {
    random: Random,
    redis: RedisServer,
    shared: Shared,
    place: Place,
    model: Server,
    known: (u64, u64),
    lives: u64,
    held: u32,
    stored: u32,
    together: u32,
}

fn by(word: u64) -> String {
    format!("w{word}")
}

impl Both {
    async fn step(&mut self, version: u64) {
        let word = self.random.below(3);
        match self.random.below(100) {
            0..35 => self.take(word).await,
            35..55 => self.fill(word, version).await,
            55..70 => self.forget(word).await,
            70..75 => self.forget_together().await,
            75..88 => self.read().await,
            88..90 => {
                self.model.forget_tag(FAR);
                self.shared.forget_tag("x", LONG).await.unwrap();
            }
            90..92 => {
                self.model.forget_other();
                self.shared.forget("other", (Step::Once, ""), LONG).await.unwrap();
            }
            92..95 => {
                self.model.clear();
                self.shared.clear().await.unwrap();
            }
            95..98 => {
                self.model.trim();
                self.redis.cli(&["XTRIM", "us:t:{cprices}:l", "MAXLEN", "1"]);
            }
            _ => {
                self.lives += 1;
                self.model = Server::new(self.lives);
                self.redis.cli(&["FLUSHALL"]);
            }
        }
    }

    async fn take(&mut self, word: u64) {
        let said = match self.shared.take_newer(wanted(), &by(word), LONG, Duration::ZERO).await {
            Found::Held(text, _) => Taken::Held(text.parse().unwrap()),
            Found::Lease => Taken::Lease,
            Found::Busy => Taken::Busy,
            Found::Blocked => Taken::Blocked,
            Found::Unknown => panic!("Redis answers"),
        };
        assert_eq!(said, self.model.take(word, (0, FAR), Rules::ALL));
        self.held += u32::from(matches!(said, Taken::Held(_)));
    }

    async fn fill(&mut self, word: u64, version: u64) {
        let said = self.shared.fill(wanted(), &by(word), &version.to_string(), LONG).await;
        assert_eq!(said, self.model.fill(word, version, (0, FAR), Rules::ALL));
        self.stored += u32::from(said);
    }

    fn part(&mut self) -> (Part, Step) {
        match self.random.below(4) {
            0 => (Part::Once, Step::Once),
            1 => (Part::Begin { until: FAR }, Step::Begin),
            _ => (Part::End, Step::End),
        }
    }

    /// Tells of several with one call, of the same value too: it is as many steps in a row.
    async fn forget_together(&mut self) {
        let mut notices = Vec::new();
        for _ in 0..2 + self.random.below(4) {
            if self.random.one_in(3) {
                self.model.forget_other();
                notices.push(self.shared.notice("other", (Step::Once, ""), LONG));
            } else {
                let (word, (part, step)) = (self.random.below(3), self.part());
                self.model.forget(part, word, 0, Rules::ALL);
                notices.push(self.shared.notice("k", (step, &by(word)), LONG));
            }
        }
        self.together += 1;
        let told = self.shared.forget_all(notices).await;
        assert!(told.iter().all(Result::is_ok), "{told:?}");
    }

    async fn forget(&mut self, word: u64) {
        let (part, step) = self.part();
        self.shared.forget("k", (step, &by(word)), LONG).await.unwrap();
        self.model.forget(part, word, 0, Rules::ALL);
    }

    async fn read(&mut self) {
        let said = self.shared.news(&self.place, LONG).await.unwrap();
        match (said, self.model.news(self.known, (1_000, 5_000), Rules::ALL)) {
            (Told::Anew(here), News::Anew { life, last }) => {
                assert_eq!(here.last, last);
                self.place = here;
                self.known = (life, last);
            }
            (Told::Follow(said, newest), News::Follow { entries, upto, newest: last }) => {
                assert_eq!(said.iter().map(kind).collect::<Vec<Entry>>(), entries);
                assert_eq!((newest, upto), (last, self.place.last + said.len() as u64));
                self.place.last = upto;
                self.known.1 = upto;
            }
            (said, modelled) => panic!("{said:?}, not {modelled:?}"),
        }
    }
}

fn kind(entry: &Forgotten) -> Entry {
    match entry {
        Forgotten::One(key) if key == "k" => Entry::Key,
        Forgotten::One(_) => Entry::Other,
        Forgotten::All => Entry::All,
        Forgotten::Tagged(tag) if tag == "x" => Entry::Tag,
        Forgotten::Tagged(tag) => panic!("nobody forgets the tag {tag}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_the_scripts_do_what_the_model_of_them_does() {
    let redis = RedisServer::start().await;
    let shared = Seat::shared(&redis, "a").await;
    let mut both = Both {
        random: Random::of(SEED),
        redis,
        shared,
        place: Place::default(),
        model: Server::new(1),
        known: (0, 0),
        lives: 1,
        held: 0,
        stored: 0,
        together: 0,
    };
    for version in 0..3_000 {
        both.step(version).await;
    }
    let Both { held, stored, lives, together, .. } = both;
    let seen = format!("{held} held, {stored} stored, {lives} lives, {together} times together");
    assert!(held > 10 && stored > 10 && lives > 5 && together > 10, "{seen}");
}
