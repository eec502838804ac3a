//! Whose session it is: what a login does to cookies, and what cookies can never do.

use understudy_tests::oracle;

use super::stage::Stage;
use super::visitor::{begun, cookie, counter, logged_in, value, whoami, with_cookie};

pub(super) async fn s5_the_old_cookie_is_dead_everywhere_once_the_login_is_answered(stage: &Stage) {
    const ROUNDS: usize = 20;
    let cluster = stage.share().await;
    let (mut adopted, mut forgotten, mut unchanged) = (0, 0, 0);
    for round in 0..ROUNDS {
        let client = begun(cluster.url(round % 3)).await;
        client.post(cluster.url(round % 3), "/incr").await.unwrap().expect(200);
        let (name, old) = cookie(&client);
        client.post(cluster.url((round + 1) % 3), "/login?user=ann").await.unwrap().expect(204);
        unchanged += usize::from(cookie(&client).1 == old);
        let stale = with_cookie(&client, &name, &old);
        let asked = cluster.nodes.iter().map(|node| async {
            let url = node.public_url();
            let (read, who) =
                tokio::join!(stale.get(url, "/read"), async { whoami(&stale, url).await });
            let read = read.unwrap().expect(200);
            let alive = who.is_some() || !value(&read).is_null() || !read.set_cookies().is_empty();
            let new = (whoami(&client, url).await, counter(&client, url).await);
            (alive, new == (Some("ann".to_owned()), Some(1)))
        });
        for (alive, known) in futures_util::future::join_all(asked).await {
            adopted += usize::from(alive);
            forgotten += usize::from(!known);
        }
    }
    oracle!("logins of 20 that kept the cookie", unchanged, 0);
    oracle!("nodes of 60 that took an old cookie", adopted, 0);
    oracle!("nodes of 60 that did not know the new cookie", forgotten, 0);
}

pub(super) async fn d13_an_unknown_or_forged_cookie_is_never_adopted(stage: &Stage) {
    let cluster = stage.share().await;
    let client = logged_in(cluster.url(0), "bob").await;
    let (name, good) = cookie(&client);
    let (locator, secret) = good.split_once('.').unwrap();
    let other = cookie(&logged_in(cluster.url(0), "eve").await).1;
    let (other_locator, other_secret) = other.split_once('.').unwrap();
    let forged = [
        changed(&good, 3),
        changed(&good, good.len() - 3),
        changed(&good, locator.len() + 3),
        format!("{locator}.{other_secret}"),
        format!("{other_locator}.{secret}"),
        format!("{locator}."),
        good.repeat(62),
        "ä".repeat(33),
    ];
    let before = cluster.metric("session_cookies_rejected_total").await;
    let mut adopted = 0;
    for (number, value) in forged.iter().enumerate() {
        let url = cluster.url(number % 3);
        let thief = with_cookie(&client, &name, value);
        adopted += usize::from(whoami(&thief, url).await.is_some());
        // A session of their own, under a cookie that they did not choose.
        thief.post(url, "/incr").await.unwrap().expect(200);
        let (_, given) = cookie(&thief);
        adopted += usize::from(given == *value || given.starts_with(locator));
    }
    let rejected = cluster.metric("session_cookies_rejected_total").await - before;
    oracle!("forged cookies of 8 that were taken", adopted, 0);
    // The test of header bytes that are not ASCII never reaches the session; the others do twice.
    oracle!("forged cookies counted by the nodes", rejected, >= 14.0);
    oracle!("user of the true cookie", whoami(&client, cluster.url(2)).await.unwrap(), "bob");
}

/// The cookie with another character at this place.
fn changed(cookie: &str, at: usize) -> String {
    let other = if cookie.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &cookie[..at], &cookie[at + 1..])
}
