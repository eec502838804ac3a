//! Logging out wins against everything that is under way.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use understudy_tests::{Answer, Client, Cluster, crowd, oracle};

use super::stage::Stage;
use super::visitor::{cookie, dice, logged_in, whoami, with_cookie};

pub(super) async fn d3_a_request_in_flight_never_undoes_a_logout(stage: &Stage) {
    const ROUNDS: usize = 200;
    let cluster = stage.share().await;
    let mut dice = dice("logout races");
    let seeds: Vec<u64> = (0..ROUNDS).map(|_| dice.random()).collect();
    let rounds = crowd(12, ROUNDS, async |round| {
        interleaved(&cluster, StdRng::seed_from_u64(seeds[round])).await
    })
    .await;
    let count = |wanted: &dyn Fn(&Round) -> bool| rounds.iter().filter(|it| wanted(it)).count();
    oracle!(
        "cookies that were logged in after 200 logouts",
        rounds.iter().map(|it| it.alive).sum::<usize>(),
        0
    );
    oracle!("logouts of 200 that were not answered 204", count(&|it| it.logout != 204), 0);
    let wrong = count(&|it| !matches!(it.slow, 200..=299 | 401 | 409));
    oracle!("slow requests of 200 not answered 2xx, 401 or 409", wrong, 0);
    // Both orders must have been tried, or the test proves nothing.
    oracle!("slow requests of 200 that lost", count(&|it| matches!(it.slow, 401 | 409)), >= 10);
    oracle!("slow requests of 200 that won", count(&|it| it.slow == 200), >= 10);
}

struct Round {
    /// How many cookies, asked of each node, were logged in afterwards.
    alive: usize,
    slow: u16,
    logout: u16,
}

/// One user, one request that takes its time, one logout in between, each at a node by chance.
async fn interleaved(cluster: &Cluster, mut dice: StdRng) -> Round {
    let mut node = || cluster.url(dice.random_range(0..3)).to_owned();
    let (login_at, slow_at, logout_at) = (node(), node(), node());
    let slow_ms = dice.random_range(0..60_u64);
    let delay = Duration::from_millis(dice.random_range(0..80));
    let client = logged_in(&login_at, "ann").await;
    let (name, old) = cookie(&client);
    let other_tab = client.fork();
    let (slow, logout) = tokio::join!(
        async { other_tab.post(&slow_at, &format!("/slow-write?ms={slow_ms}")).await.unwrap() },
        async {
            tokio::time::sleep(delay).await; // the interleaving that this round tries
            client.post(&logout_at, "/logout").await.unwrap()
        }
    );
    let mut values = vec![old];
    values.extend([&slow, &logout].into_iter().flat_map(|answer| given(answer, &name)));
    let mut alive = 0;
    for value in &values {
        alive += alive_at(cluster, &with_cookie(&client, &name, value)).await;
    }
    Round { alive, slow: slow.status, logout: logout.status }
}

/// The values of the session cookie that an answer set.
fn given(answer: &Answer, name: &str) -> Vec<String> {
    let lines = answer.set_cookies();
    let pairs = lines.iter().filter_map(|line| line.split(';').next()?.split_once('='));
    pairs
        .filter(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, v)| v.to_owned())
        .collect()
}

/// At how many nodes this browser is logged in.
async fn alive_at(cluster: &Cluster, client: &Client) -> usize {
    let asked = cluster.nodes.iter().map(|node| whoami(client, node.public_url()));
    futures_util::future::join_all(asked).await.into_iter().flatten().count()
}

pub(super) async fn s8_a_logout_counts_everywhere_once_it_is_answered(stage: &Stage) {
    const ROUNDS: usize = 30;
    let cluster = stage.share().await;
    let (mut alive, mut kept) = (0, 0);
    for round in 0..ROUNDS {
        let client = logged_in(cluster.url(round % 3), "ann").await;
        let (name, value) = cookie(&client);
        let before = with_cookie(&client, &name, &value);
        // All nodes know the session before, so that each could have kept something of it.
        let known = alive_at(&cluster, &before).await;
        client.post(cluster.url((round / 3) % 3), "/logout").await.unwrap().expect(204);
        alive += alive_at(&cluster, &before).await;
        kept += usize::from(known != 3 || !client.cookies().is_empty());
    }
    oracle!("nodes of 90 that let a logged-out cookie in", alive, 0);
    oracle!("logouts of 30 that left a cookie, or had no login before", kept, 0);
}
