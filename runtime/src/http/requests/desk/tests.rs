use std::cell::Cell;
use std::sync::Arc;

use actix_web::test::TestRequest;
use tokio::task::LocalSet;

use super::*;
use crate::http::requests::Requests;
use crate::http::settings::HttpSettings;

fn visit(path: &str) -> Visit {
    let request = TestRequest::post()
        .uri(path)
        .peer_addr("127.0.0.1:1".parse().unwrap())
        .insert_header(("x-forwarded-for", "6.6.6.6, 203.0.113.9"));
    let proxies = &HttpSettings::for_test().trusted_proxies;
    Visit::of(&request.to_srv_request(), proxies, Instant::now())
}

/// Runs a test where tasks of one thread may be spawned, as on a worker.
async fn on_a_worker(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

fn worker(requests: &Requests) -> crate::http::requests::WorkerRequests {
    let worker = requests.worker();
    tokio::task::spawn_local(worker.read_letters(Arc::new(HttpSettings::for_test())));
    worker
}

#[tokio::test]
async fn u15_the_requests_of_all_workers_are_listed_and_told_apart() {
    on_a_worker(async {
        let requests = Requests::new();
        let (first, second) = (worker(&requests), worker(&requests));
        let (one, two) = (first.enter(visit("/one?secret=1")), first.enter(visit("/two")));
        let three = second.enter(visit("/three"));
        let listing = requests.list().await;
        assert_eq!(listing.blocked_workers, 0);
        let mut paths: Vec<&str> = listing.requests.iter().map(|one| one.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/one", "/three", "/two"], "without their queries");
        let ids: std::collections::BTreeSet<&str> =
            listing.requests.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids.len(), 3);
        let shown = &listing.requests[0];
        assert_eq!(
            (shown.method.as_str(), shown.client.to_string().as_str()),
            ("POST", "203.0.113.9")
        );
        drop(one);
        let four = first.enter(visit("/four"));
        drop((two, three));
        let paths: Vec<String> =
            requests.list().await.requests.into_iter().map(|one| one.path).collect();
        assert_eq!(paths, ["/four"], "a free place is used again");
        drop(four);
    })
    .await;
}

/// Says when it is dropped.
struct Dropped(Rc<Cell<bool>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[tokio::test]
async fn u15_a_request_that_hangs_is_ended_and_its_handler_dropped() {
    on_a_worker(async {
        let requests = Requests::new();
        let worker = worker(&requests);
        let dropped = Rc::new(Cell::new(false));
        let guard = Dropped(Rc::clone(&dropped));
        let place = worker.enter(visit("/slow"));
        let hanging = tokio::task::spawn_local(async move {
            place
                .or_cancelled(async move {
                    let _guard = guard;
                    std::future::pending::<()>().await
                })
                .await
        });
        let id = requests.list().await.requests[0].id.clone();
        assert!(!requests.cancel("0-99").await && !requests.cancel("7-1").await);
        for wrong in ["", "-", "x", "0", "0-", "0-x", "0-1-1"] {
            assert!(!requests.cancel(wrong).await, "{wrong}");
        }
        assert!(!dropped.get());
        assert!(requests.cancel(&id).await);
        assert_eq!(hanging.await.unwrap(), None);
        assert!(dropped.get());
        assert!(!requests.cancel(&id).await, "it is over");
        assert!(requests.list().await.requests.is_empty());
    })
    .await;
}

#[tokio::test]
async fn u15_a_request_that_is_answered_is_left_alone() {
    on_a_worker(async {
        let requests = Requests::new();
        let place = worker(&requests).enter(visit("/quick"));
        assert_eq!(place.or_cancelled(async { 7 }).await, Some(7));
    })
    .await;
}

#[tokio::test]
async fn u15_a_worker_that_does_not_answer_is_counted() {
    on_a_worker(async {
        let requests = Requests::new();
        let silent = requests.worker(); // nobody reads its letters
        let busy = worker(&requests);
        let place = busy.enter(visit("/here"));
        let listing = requests.list().await;
        assert_eq!((listing.requests.len(), listing.blocked_workers), (1, 1));
        drop((silent, place));
    })
    .await;
}
