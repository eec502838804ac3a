//! Parallel changes of one session through all nodes: none is lost, none is done twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use understudy_tests::{Answer, crowd, oracle};

use super::stage::Stage;
use super::visitor::{all, begun, counter, value};

const CLIENTS: usize = 64;

pub(super) async fn t3_a_counter_is_exact_without_stickiness(stage: &Stage) {
    const INCREMENTS: usize = 2_000;
    let cluster = stage.share().await;
    let url = cluster.balancer();
    let client = begun(&url).await;
    let answers =
        crowd(CLIENTS, INCREMENTS, async |_| client.post(&url, "/incr?sleep=5").await.unwrap())
            .await;
    oracle!("answers to 2000 increments that are not 200", refused(&answers, 200), 0);
    oracle!("counter after 2000 increments", counter(&client, &url).await.unwrap(), 2_000);
    let different: BTreeSet<Option<i64>> =
        answers.iter().map(|answer| value(answer).as_i64()).collect();
    oracle!("different values that 2000 increments were told", different.len(), INCREMENTS);
    let mut served: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &answers {
        *served.entry(answer.node().unwrap()).or_default() += 1;
    }
    for node in &cluster.nodes {
        let served = served.get(node.name()).copied().unwrap_or(0);
        oracle!(&format!("increments of 2000 served by {}", node.name()), served, >= 1);
    }
}

pub(super) async fn d2_parallel_writes_of_different_keys_are_all_kept_in_few_scripts(
    stage: &Stage,
) {
    const KEYS: usize = 500;
    let cluster = stage.share().await;
    let url = cluster.balancer();
    let client = begun(&url).await;
    let before = all(&client, &url).await.info.unwrap().version;
    let answers = crowd(KEYS, KEYS, async |key| {
        client.post(&url, &format!("/set?k=key-{key}&v=value-{key}")).await.unwrap()
    })
    .await;
    oracle!("answers to 500 writes that are not 204", refused(&answers, 204), 0);
    let after = all(&client, &url).await;
    let kept = (0..KEYS).filter(|key| {
        after.values.get(&format!("key-{key}")) == Some(&Value::from(format!("value-{key}")))
    });
    oracle!("keys of 500 that are there", kept.count(), KEYS);
    // Each script that wrote made one version.
    let scripts = usize::try_from(after.info.unwrap().version - before).unwrap();
    oracle!("scripts that wrote 500 keys", scripts, <= KEYS - 1);
}

pub(super) async fn updates_by_a_closure_from_three_nodes_are_exact(stage: &Stage) {
    const UPDATES: usize = 200;
    let cluster = stage.share().await;
    let client = begun(cluster.url(0)).await;
    let answers = crowd(CLIENTS, UPDATES, async |number| {
        client.post(cluster.url(number % 3), "/update").await.unwrap()
    })
    .await;
    oracle!("answers to 200 updates that are not 200", refused(&answers, 200), 0);
    for node in &cluster.nodes {
        let counted = counter(&client, node.public_url()).await.unwrap();
        oracle!(&format!("counter after 200 updates, read at {}", node.name()), counted, 200);
    }
}

pub(super) async fn appended_items_all_have_a_place_of_their_own(stage: &Stage) {
    const ITEMS: usize = 200;
    let cluster = stage.share().await;
    let client = begun(cluster.url(0)).await;
    let answers = crowd(CLIENTS, ITEMS, async |item| {
        let path = format!("/append?k=list&v=item-{item}");
        (item, client.post(cluster.url(item % 3), &path).await.unwrap().expect(200))
    })
    .await;
    let list = client.get(cluster.url(1), "/get?k=list").await.unwrap();
    let list: Vec<String> = serde_json::from_value(value(&list)).unwrap();
    oracle!("items in the list", list.len(), ITEMS);
    let mut lengths = BTreeSet::new();
    let mut misplaced = 0;
    for (item, answer) in &answers {
        let length = answer.json::<BTreeMap<String, usize>>()["length"];
        lengths.insert(length);
        misplaced += usize::from(list[length - 1] != format!("item-{item}"));
    }
    oracle!("different lengths told to 200 appends", lengths.len(), ITEMS);
    oracle!("items that are not where their length says", misplaced, 0);
}

fn refused(answers: &[Answer], wanted: u16) -> usize {
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != wanted).collect();
    if let Some(first) = refused.first() {
        oracle::note(&format!("the first of them: {first:?}"));
    }
    refused.len()
}
