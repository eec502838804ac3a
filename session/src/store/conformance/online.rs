//! Who was here lately.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::{Bench, node};
use crate::store::End;
use crate::store::online::{LONGEST_WINDOW_MS, OnlineCursor};

impl Bench<'_> {
    /// All who are online, with how often each was shown.
    async fn online(&self, within_ms: u64, limit: u32) -> BTreeMap<String, usize> {
        let (mut shown, mut after): (BTreeMap<String, usize>, Option<OnlineCursor>) =
            (BTreeMap::new(), None);
        loop {
            let page = self.store.online(within_ms, after.as_ref(), limit).await;
            let page = page.expect("online answers");
            assert!(page.users.len() <= limit as usize);
            for user in page.users {
                *shown.entry(user.user).or_default() += 1;
            }
            let Some(next) = page.next else { return shown };
            // As it comes back from a client.
            after = OnlineCursor::from_text(&next.to_text());
            assert_eq!(after, Some(next));
        }
    }
}

pub(super) async fn who_used_a_session_lately_is_online_until_the_last_one_ends(bench: &Bench<'_>) {
    let user = bench.user();
    let (first, _) = bench.logged_in(&user).await;
    let (second, _) = bench.logged_in(&user).await;
    for locator in [first.locator, second.locator] {
        bench.store.seen(locator, Some(&user)).await.expect("seen answers");
    }
    let shown = bench.online(LONGEST_WINDOW_MS, 100).await;
    assert_eq!(shown.get(&user), Some(&1), "once, whatever the number of sessions");
    let guest = bench.session(&node("a")).await;
    bench.store.seen(guest.locator, None).await.expect("seen answers");
    let count = bench.store.count_online(LONGEST_WINDOW_MS).await.expect("count answers");
    assert!(count.users >= 1 && count.guests >= 1, "{count:?}");
    bench.store.revoke(first.locator, End::Asked).await.expect("revoke answers");
    assert!(bench.online(LONGEST_WINDOW_MS, 100).await.contains_key(&user), "one session is left");
    bench.store.revoke(second.locator, End::Asked).await.expect("revoke answers");
    bench.store.revoke(guest.locator, End::Asked).await.expect("revoke answers");
    assert!(!bench.online(LONGEST_WINDOW_MS, 100).await.contains_key(&user), "none is left");
    let later = bench.user();
    let (owned, _) = bench.logged_in(&later).await;
    bench.store.seen(owned.locator, Some(&later)).await.expect("seen answers");
    bench.fixture.pass(bench.fixture.touch_slack() + Duration::from_millis(20)).await;
    assert!(!bench.online(1, 100).await.contains_key(&later), "that was longer ago");
    assert!(bench.online(LONGEST_WINDOW_MS, 100).await.contains_key(&later));
}

pub(super) async fn pages_show_all_who_are_online(bench: &Bench<'_>) {
    let mut users = Vec::new();
    for _ in 0..9 {
        let user = bench.user();
        let (owned, _) = bench.logged_in(&user).await;
        bench.store.seen(owned.locator, Some(&user)).await.expect("seen answers");
        users.push(user);
    }
    for limit in [1, 4, 1_000] {
        let shown = bench.online(LONGEST_WINDOW_MS, limit).await;
        for user in &users {
            assert_eq!(shown.get(user), Some(&1), "of pages of {limit}");
        }
    }
}
