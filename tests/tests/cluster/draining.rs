//! Nodes that are asked to leave while people write.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use understudy_tests::{Client, crowd, oracle, wait};

use super::ground::{LIMIT, cluster_of, listed};
use super::smoke::counter;

#[tokio::test(flavor = "multi_thread")]
async fn o2_a_node_that_is_asked_to_leave_fails_no_write() {
    let mut cluster = cluster_of(3).nginx(true).start().await;
    let balancer = cluster.balancer();
    let (stop, stopped) = watch::channel(false);
    let done = AtomicUsize::new(0);
    let load = async {
        crowd(8, 8, async |_| {
            let (client, mut acknowledged, mut failed) = (Client::new(), 0_i64, Vec::new());
            while !*stopped.borrow() {
                match client.post(&balancer, "/incr").await {
                    Ok(answer) if answer.status == 200 => {
                        acknowledged += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    other => failed.push(format!("{other:?}")),
                }
            }
            (client, acknowledged, failed)
        })
        .await
    };
    let (nodes, balancer) = (&mut cluster.nodes, balancer.clone());
    let leave = async {
        let served = async || nodes[0].metric("sessions_created_total").await > 0.0;
        wait::until("the node has sessions", LIMIT, served).await;
        let written = async |count| done.load(Ordering::Relaxed) >= count;
        wait::until("the first are written", LIMIT, async || written(25).await).await;
        nodes[0].terminate();
        let status = nodes[0].wait_exit(LIMIT).await;
        wait::until("the others know", LIMIT, async || listed(&nodes[1]).await.len() == 2).await;
        wait::until("enough are written", LIMIT, async || written(50).await).await;
        stop.send_replace(true);
        status
    };
    let (clients, status) = tokio::join!(load, leave);
    oracle!("exit status", status.code().unwrap(), 0);
    oracle!("leases and list entries that it left behind", cluster.traces_of("node-a").len(), 0);
    let failures: Vec<&String> = clients.iter().flat_map(|(_, _, failed)| failed).collect();
    if let Some(first) = failures.first() {
        oracle::note(first);
        oracle::note(&cluster.nginx.as_ref().expect("a balancer").error_log());
    }
    let written: i64 = clients.iter().map(|(_, acknowledged, _)| *acknowledged).sum();
    oracle!("writes", written, >= 50);
    oracle!("writes that failed", failures.len(), 0);
    let mut wrong = 0;
    for (client, acknowledged, _) in &clients {
        wrong += usize::from(counter(client, &balancer).await != *acknowledged);
    }
    oracle!("sessions of 8 that do not hold what was acknowledged", wrong, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn o2_the_last_node_serves_until_it_stops() {
    let mut cluster = cluster_of(1).start().await;
    let client = Client::new();
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    let url = cluster.url(0).to_owned();
    cluster.nodes[0].terminate();
    wait::until("it says that it leaves", LIMIT, async || {
        client.get(&url, "/readyz").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    // Nobody else could answer: a 503 would help nobody.
    client.get(&url, "/read").await.unwrap().expect(200);
    client.post(&url, "/incr").await.unwrap().expect(200);
    assert!(cluster.nodes[0].wait_exit(LIMIT).await.success());
    cluster.nodes[0].start_again();
    cluster.nodes[0].ready(Duration::from_secs(30)).await;
    assert_eq!(counter(&client, &url).await, 2);
}
