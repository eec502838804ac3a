use std::cell::Cell;
use std::sync::Arc;

use actix_web::test::TestRequest;
use tokio::task::LocalSet;

use super::*;
use crate::http::requests::Requests;
use crate::http::settings::HttpSettings;

/// The life of the node of these tests.
const OWN: Incarnation = Incarnation::from_u64(0x00ab_cdef_0123_4567);

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
        let requests = Requests::new(OWN);
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
        let requests = Requests::new(OWN);
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
        assert_eq!(id, "00abcd-0-1", "the process, the worker, the request");
        let wrong = "|-|x|0|0-1|00abcd|00abcd-|00abcd-0|00abcd-0-|00abcd-0-x|00abcd-0-1-1|-0-1";
        let others = ["00abcd-0-99", "00abcd-7-1", "00abce-0-1"];
        for wrong in wrong.split('|').chain(others) {
            assert_eq!(requests.cancel(wrong).await, Cancelling::Unknown, "{wrong}");
        }
        assert!(!dropped.get());
        assert_eq!(requests.cancel(&id).await, Cancelling::Done);
        assert_eq!(hanging.await.unwrap(), None);
        assert!(dropped.get());
        assert_eq!(requests.cancel(&id).await, Cancelling::Unknown, "it is over");
        assert!(requests.list().await.requests.is_empty());
    })
    .await;
}

#[tokio::test]
async fn u15_a_request_that_is_answered_is_left_alone() {
    on_a_worker(async {
        let requests = Requests::new(OWN);
        let place = worker(&requests).enter(visit("/quick"));
        assert_eq!(place.or_cancelled(async { 7 }).await, Some(7));
    })
    .await;
}

#[tokio::test]
async fn u15_a_worker_that_does_not_answer_is_counted() {
    on_a_worker(async {
        let requests = Requests::new(OWN);
        let silent = requests.worker(); // nobody reads its letters
        let busy = worker(&requests);
        let place = busy.enter(visit("/here"));
        let listing = requests.list().await;
        assert_eq!((listing.requests.len(), listing.blocked_workers), (1, 1));
        drop((silent, place));
    })
    .await;
}

#[tokio::test]
async fn u15_a_request_of_a_worker_that_is_blocked_is_ended_when_that_answers() {
    on_a_worker(async {
        let requests = Requests::new(OWN);
        let worker = requests.worker();
        let mut reading = Box::pin(worker.read_letters(Arc::new(HttpSettings::for_test())));
        let place = worker.enter(visit("/stuck"));
        let listing = tokio::select! {
            listing = requests.list() => listing,
            () = &mut reading => panic!("letters are read for as long as there may be any"),
        };
        let id = listing.requests[0].id.clone();
        // From here on nobody reads them, as if the thread were blocked.
        let wishes = (0..=LETTERS).map(|_| requests.cancel(&id));
        let became = futures_util::future::join_all(wishes).await;
        let count = |wanted: Cancelling| became.iter().filter(|it| **it == wanted).count();
        assert_eq!((count(Cancelling::Later), count(Cancelling::NotNow)), (LETTERS, 1));
        let mut hanging = Box::pin(place.or_cancelled(std::future::pending::<()>()));
        assert!(futures_util::poll!(hanging.as_mut()).is_pending(), "it is under way until then");
        let ended = tokio::select! {
            ended = &mut hanging => ended,
            () = &mut reading => panic!("letters are read for as long as there may be any"),
        };
        assert_eq!(ended, None);
    })
    .await;
}

#[tokio::test]
async fn u15_who_looks_at_a_blocked_worker_leaves_room_for_who_ends_a_request() {
    on_a_worker(async {
        let requests = Requests::new(OWN);
        let worker = requests.worker(); // nobody reads its letters
        let place = worker.enter(visit("/stuck"));
        let looks = (0..=LETTERS).map(|_| requests.list());
        let looks = futures_util::future::join_all(looks).await;
        assert!(looks.iter().all(|listing| listing.blocked_workers == 1));
        assert_eq!(requests.cancel("00abcd-0-1").await, Cancelling::Later);
        drop((worker, place));
    })
    .await;
}
