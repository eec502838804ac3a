//! Rolls of users, pages and counts.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::bench::{Bench, LONG, Owned, blank, ms, node, set};
use crate::record::{Change, Locator, Record};
use crate::store::register::{
    Condemn, Confirmed, Cursor, Enrolled, Enrolment, Glimpse, Place, Progress, Sight, StillHeld,
};
use crate::store::{End, RestoreReply};

impl Bench<'_> {
    /// A name that no other case uses, with what is special to some store in it.
    pub(super) fn user(&self) -> String {
        format!("{{Zoë}}|%_'\" {}", Locator::random())
    }

    pub(super) async fn enroll(&self, user: &str, locator: Locator, most: Option<u32>) -> Enrolled {
        let enrolment = Enrolment { user, locator, most, lifetime_ms: ms(LONG) };
        self.store.enroll(enrolment).await.expect("enroll answers")
    }

    pub(super) async fn place(&self, user: &str, locator: Locator) -> Place {
        match self.enroll(user, locator, None).await {
            Enrolled::In { place, .. } => place,
            other => panic!("nothing stands against a place: {other:?}"),
        }
    }

    pub(super) async fn confirm(&self, user: &str, locator: Locator) -> Confirmed {
        self.store.confirm(user, locator).await.expect("confirm answers")
    }

    pub(super) async fn roll(&self, user: &str) -> Vec<(Place, Progress)> {
        self.store.roll(user).await.expect("roll answers").places
    }

    pub(super) async fn look(&self, locator: Locator) -> Sight {
        let sights = self.store.look(&[locator]).await.expect("look answers");
        let [sight] = &sights[..] else { panic!("one answer for one session: {sights:?}") };
        sight.clone()
    }

    /// Logs in as a node does it: the roll, the record, the roll.
    pub(super) async fn logged_in(&self, user: &str) -> (Owned, Place) {
        let mut owned = self.session(&node("a")).await;
        let place = self.place(user, owned.locator).await;
        let change = Change { user: Some(Some(user.into())), ..set("n", "1") };
        self.written(&mut owned, &change).await;
        assert!(matches!(self.confirm(user, owned.locator).await, Confirmed::Stands { .. }));
        (owned, place)
    }

    async fn condemn(&self, user: &str, which: Condemn) -> Vec<Place> {
        let mut condemned = self.store.condemn(user, which).await.expect("condemn answers");
        condemned.sort();
        condemned
    }
}

pub(super) async fn a_place_stands_once_its_login_is_confirmed(bench: &Bench<'_>) {
    let (user, locator) = (bench.user(), Locator::random());
    assert_eq!(bench.confirm(&user, locator).await, Confirmed::Lost, "it has no place");
    let place = bench.place(&user, locator).await;
    assert_eq!(bench.roll(&user).await, [(place, Progress::Begun)]);
    for _ in 0..2 {
        assert_eq!(bench.confirm(&user, locator).await, Confirmed::Stands { standing: 1 });
        assert_eq!(bench.roll(&user).await, [(place, Progress::Stands)]);
    }
    bench.fixture.pass(std::time::Duration::from_millis(2)).await;
    let Enrolled::In { place: later, again: true } = bench.enroll(&user, locator, Some(1)).await
    else {
        panic!("its own place does not count against it")
    };
    assert!(later.at_ms > place.at_ms, "it logs in anew");
    assert_eq!(bench.roll(&user).await, [(later, Progress::Stands)], "and stood all the time");
    let now_ms = bench.store.roll(&user).await.expect("roll answers").now_ms;
    assert!(now_ms >= later.at_ms);
    assert_eq!(bench.roll(&bench.user()).await, [], "others have their own");
}

pub(super) async fn no_more_get_a_place_than_may(bench: &Bench<'_>) {
    let user = bench.user();
    let locators: Vec<Locator> = (0..11).map(|_| Locator::random()).collect();
    let enrolled = join_all(locators.iter().map(|it| bench.enroll(&user, *it, Some(10)))).await;
    let full: Vec<_> = locators
        .iter()
        .zip(&enrolled)
        .filter(|(_, enrolled)| **enrolled == Enrolled::Full)
        .map(|(locator, _)| *locator)
        .collect();
    assert_eq!(full.len(), 1, "of eleven at once ten get in: {enrolled:?}");
    let roll = bench.roll(&user).await;
    assert_eq!(roll.len(), 10);
    assert!(roll.is_sorted_by_key(|(place, _)| place.at_ms), "the oldest first");
    bench.store.strike(&user, &roll[..1]).await.expect("strike answers");
    assert!(matches!(bench.enroll(&user, full[0], Some(10)).await, Enrolled::In { .. }));
}

pub(super) async fn the_oldest_beyond_the_number_are_condemned(bench: &Bench<'_>) {
    let user = bench.user();
    let mut places = Vec::new();
    for _ in 0..5 {
        let place = bench.place(&user, Locator::random()).await;
        bench.confirm(&user, place.locator).await;
        places.push(place);
        bench.fixture.pass(std::time::Duration::from_millis(2)).await;
    }
    let under_way = bench.place(&user, Locator::random()).await;
    assert_eq!(bench.condemn(&user, Condemn::Beyond(5)).await, []);
    let condemns = join_all((0..4).map(|_| bench.condemn(&user, Condemn::Beyond(3)))).await;
    for condemned in condemns {
        assert_eq!(condemned, places[..2], "the oldest, and each once; what is under way is left");
    }
    let first = places[0].locator;
    assert_eq!(bench.confirm(&user, first).await, Confirmed::Lost);
    assert_eq!(bench.enroll(&user, first, None).await, Enrolled::Condemned);
    assert_eq!(bench.condemn(&user, Condemn::Beyond(3)).await, places[..2], "told again");
    let seen = [(places[0], Progress::Stands), (places[1], Progress::Condemned)];
    bench.store.strike(&user, &seen).await.expect("strike answers");
    assert_eq!(bench.condemn(&user, Condemn::Beyond(3)).await, places[..1], "it was seen wrongly");
    let standing = bench.confirm(&user, under_way.locator).await;
    assert_eq!(standing, Confirmed::Stands { standing: 4 });
}

pub(super) async fn of_many_logins_at_once_as_many_stand_as_may(bench: &Bench<'_>) {
    let user = bench.user();
    let logins = (0..12).map(async |_| {
        let place = bench.place(&user, Locator::random()).await;
        let confirmed = bench.confirm(&user, place.locator).await;
        (confirmed, bench.condemn(&user, Condemn::Beyond(5)).await)
    });
    let answers = join_all(logins.collect::<Vec<_>>()).await;
    let roll = bench.roll(&user).await;
    let standing = roll.iter().filter(|(_, progress)| *progress == Progress::Stands).count();
    assert_eq!((roll.len(), standing), (12, 5), "{roll:?} after {answers:?}");
}

pub(super) async fn all_are_condemned_also_those_under_way(bench: &Bench<'_>) {
    let user = bench.user();
    let places =
        [bench.place(&user, Locator::random()).await, bench.place(&user, Locator::random()).await];
    bench.confirm(&user, places[0].locator).await;
    let mut all = places.to_vec();
    all.sort();
    assert_eq!(bench.condemn(&user, Condemn::All).await, all);
    assert_eq!(bench.confirm(&user, places[1].locator).await, Confirmed::Lost);
    let later = bench.place(&user, Locator::random()).await;
    let standing = bench.confirm(&user, later.locator).await;
    assert_eq!(standing, Confirmed::Stands { standing: 1 }, "whoever comes later is not meant");
    assert_eq!(bench.condemn(&bench.user(), Condemn::All).await, []);
}

pub(super) async fn all_but_one_are_condemned(bench: &Bench<'_>) {
    let user = bench.user();
    let (kept, kept_place) = bench.logged_in(&user).await;
    let (_other, other_place) = bench.logged_in(&user).await;
    let under_way = bench.place(&user, Locator::random()).await;
    let mut others = vec![other_place, under_way];
    others.sort();
    let which = Condemn::Others(kept.locator);
    for _ in 0..2 {
        assert_eq!(bench.condemn(&user, which).await, others, "the same when it is asked again");
    }
    let standing = bench.confirm(&user, kept.locator).await;
    assert_eq!(standing, Confirmed::Stands { standing: 1 }, "it stands as before");
    assert_eq!(bench.confirm(&user, under_way.locator).await, Confirmed::Lost);
    let mut all = [others, vec![kept_place]].concat();
    all.sort();
    assert_eq!(bench.condemn(&user, Condemn::All).await, all);
    assert_eq!(bench.condemn(&user, which).await, all, "what is condemned is not spared any more");
}

pub(super) async fn a_place_is_struck_off_only_as_it_was_seen(bench: &Bench<'_>) {
    let (user, locator) = (bench.user(), Locator::random());
    let place = bench.place(&user, locator).await;
    bench.confirm(&user, locator).await;
    let strikes = [
        (place, Progress::Begun),
        (Place { at_ms: place.at_ms + 1, locator }, Progress::Stands),
        (Place { at_ms: place.at_ms, locator: Locator::random() }, Progress::Stands),
    ];
    bench.store.strike(&user, &strikes).await.expect("strike answers");
    assert_eq!(bench.roll(&user).await, [(place, Progress::Stands)]);
    bench.store.strike(&user, &[(place, Progress::Stands)]).await.expect("strike answers");
    assert_eq!(bench.roll(&user).await, []);
}

/// The roll without those that are over: it may name too many, where the place of one could not be struck off.
async fn standing(bench: &Bench<'_>, user: &str) -> Vec<(Place, Progress)> {
    let mut standing = Vec::new();
    for (place, progress) in bench.roll(user).await {
        if bench.look(place.locator).await != Sight::Gone {
            standing.push((place, progress));
        }
    }
    standing
}

pub(super) async fn what_is_over_leaves_the_roll(bench: &Bench<'_>) {
    let user = bench.user();
    let (ended, ended_place) = bench.logged_in(&user).await;
    let (_kept, kept_place) = bench.logged_in(&user).await;
    let roll: BTreeSet<Place> = bench.roll(&user).await.iter().map(|(place, _)| *place).collect();
    assert_eq!(roll, BTreeSet::from([ended_place, kept_place]));
    bench.store.revoke(ended.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(standing(bench, &user).await, [(kept_place, Progress::Stands)]);
    // And what a sweep ends.
    let idle = std::time::Duration::from_millis(1_000);
    let record =
        Record { user: Some(user.as_str().into()), idle_ms: ms(idle), ..blank(&node("a")) };
    let locator = Locator::random();
    bench.place(&user, locator).await;
    bench.store.create(locator, &record, ms(LONG)).await.expect("create answers");
    bench.confirm(&user, locator).await;
    assert_eq!(bench.roll(&user).await.len(), 2);
    let over = idle + bench.fixture.touch_slack() + std::time::Duration::from_millis(2);
    bench.fixture.pass(over).await;
    assert_eq!(bench.look(locator).await, Sight::Gone, "over by its time");
    while bench
        .store
        .sweep(bench.fixture.bucket(locator), 100, Some(LONG))
        .await
        .expect("sweep answers")
        .more
    {}
    assert_eq!(standing(bench, &user).await, [(kept_place, Progress::Stands)]);
}

pub(super) async fn a_look_shows_what_a_session_is(bench: &Bench<'_>) {
    let user = bench.user();
    let (owned, _) = bench.logged_in(&user).await;
    let wanted = Glimpse {
        locator: owned.locator,
        user: Some(user),
        owner: Some(owned.fence.token.clone()),
        lease_ms: 0,
        epoch: 1,
        version: 2,
        created_ms: owned.record.created_ms,
        last_access_ms: bench.found(owned.locator).await.last_access_ms,
        absolute_ms: owned.record.absolute_ms,
        idle_ms: owned.record.idle_ms,
        bytes: 2,
    };
    let Sight::Seen(glimpse) = bench.look(owned.locator).await else { panic!("it lives") };
    // Sealed ones take a nonce, a tag and the name of the key more.
    assert!((2..=80).contains(&glimpse.bytes), "about as many as name and text have: {glimpse:?}");
    assert_eq!(Glimpse { bytes: 2, ..glimpse }, wanted);
    let owner = owned.fence.token.node().expect("a token names a node");
    bench.alive(&owner, owned.locator, LONG).await;
    let Sight::Seen(glimpse) = bench.look(owned.locator).await else { panic!("it lives") };
    assert!((1..=ms(LONG)).contains(&glimpse.lease_ms), "{glimpse:?}");
    let other = bench.session(&node("b")).await;
    let locators = [other.locator, Locator::random(), owned.locator];
    let sights = bench.store.look(&locators).await.expect("look answers");
    let users = sights.iter().map(|sight| match sight {
        Sight::Seen(glimpse) => Some(glimpse.user.is_some()),
        Sight::Gone | Sight::Unreadable => None,
    });
    assert_eq!(users.collect::<Vec<_>>(), [Some(false), None, Some(true)], "in their order");
    bench.store.revoke(other.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(bench.look(other.locator).await, Sight::Gone);
}

pub(super) async fn pages_show_each_session_once(bench: &Bench<'_>) {
    let mut wanted = BTreeSet::new();
    for _ in 0..25 {
        wanted.insert(bench.session(&node("a")).await.locator);
    }
    let ended = bench.session(&node("a")).await.locator;
    bench.store.revoke(ended, End::Asked).await.expect("revoke answers");
    let (mut seen, mut after, mut last): (Vec<Locator>, Option<Cursor>, _) =
        (Vec::new(), None, None);
    loop {
        let page = bench.store.page(after.as_ref(), 7).await.expect("page answers");
        assert!(page.sessions.len() <= 7);
        seen.extend(page.sessions.iter().map(|session| session.locator));
        let Some(next) = page.next else { break };
        assert!(last.replace(next.clone()).is_none_or(|last| last < next), "it goes on");
        // As it comes back from a client.
        after = Cursor::from_text(&next.to_text());
        assert_eq!(after, Some(next));
    }
    let distinct: BTreeSet<Locator> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "each once");
    assert!(distinct.is_superset(&wanted) && !distinct.contains(&ended));
    let count = bench.store.count().await.expect("count answers");
    assert!(count.sessions >= 25, "{count:?}");
}

pub(super) async fn sessions_with_a_user_are_counted_apart(bench: &Bench<'_>) {
    let named = async || bench.store.count().await.expect("count answers").named;
    let before = named().await;
    let user =
        |name: Option<&str>| Change { user: Some(name.map(Into::into)), ..Change::default() };
    let mut guest = bench.session(&node("a")).await;
    assert_eq!(named().await, before, "nobody is logged in");
    bench.written(&mut guest, &user(Some("ann"))).await;
    assert_eq!(named().await, before + 1, "somebody logged in");
    bench.written(&mut guest, &user(Some("bob"))).await;
    assert_eq!(named().await, before + 1, "somebody else did");
    let record = Record { user: Some("ann".into()), ..blank(&node("a")) };
    let begun = bench.session_like(&record, LONG).await;
    assert_eq!(named().await, before + 2, "a session began with a login");
    bench.written(&mut guest, &user(None)).await;
    assert_eq!(named().await, before + 1, "nobody is any more");
    bench.store.revoke(begun.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(named().await, before, "and it is over");
}

pub(super) async fn a_session_is_found_by_the_beginning_of_its_id(bench: &Bench<'_>) {
    let owned = bench.session(&node("a")).await;
    let id = owned.locator.public_id();
    for digits in [8, 12, 16, 17, 32] {
        let found = bench.store.find(&id[..digits]).await.expect("find answers");
        assert_eq!(found, [owned.locator], "{digits} digits");
    }
    let mut wrong = id.clone();
    wrong.replace_range(31.., if id.ends_with('0') { "1" } else { "0" });
    assert_eq!(bench.store.find(&wrong).await.expect("find answers"), []);
    bench.store.revoke(owned.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(bench.store.find(&id).await.expect("find answers"), []);
}

pub(super) async fn who_may_still_show_an_ended_session_is_told(bench: &Bench<'_>) {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    let held = async || bench.store.still_held(owned.locator).await.expect("still_held answers");
    bench.alive(&owner, owned.locator, LONG).await;
    bench.store.revoke(owned.locator, End::Asked).await.expect("revoke answers");
    let Some(StillHeld { node, for_ms }) = held().await else { panic!("its lease is live") };
    assert_eq!(node, owner);
    assert!((1..=ms(LONG)).contains(&for_ms), "{for_ms}");
    let bucket = bench.fixture.bucket(owned.locator);
    bench.leases.drop_node(bucket, &owner).await.expect("drop_node answers");
    assert_eq!(held().await, None, "it gave its lease back");
    let stranger = bench.store.still_held(Locator::random()).await.expect("still_held answers");
    assert_eq!(stranger, None);
}

pub(super) async fn what_is_put_back_is_on_the_roll(bench: &Bench<'_>) {
    let user = bench.user();
    let (mut owned, _) = bench.logged_in(&user).await;
    if bench.fixture.change_identity().await.is_none() {
        return;
    }
    owned.record.epoch += 1; // as if the store had lost the claim, where it did not lose everything
    let reply = bench.store.restore(owned.locator, &owned.record).await.expect("restore answers");
    assert_eq!(reply, RestoreReply::Restored);
    let roll = bench.roll(&user).await;
    assert!(
        matches!(&roll[..], [(place, Progress::Stands)] if place.locator == owned.locator),
        "{roll:?}"
    );
    let id = owned.locator.public_id();
    assert_eq!(bench.store.find(&id).await.expect("find answers"), [owned.locator]);
}
