use std::panic::AssertUnwindSafe;

use actix::{Actor, AtomicResponse, Context, Handler, Message, WrapFuture as _};
use tokio::sync::oneshot;

use super::*;
use crate::clock::ManualClock;

static CLERK: ActorType = ActorType { name: "clerk", meaning: "Writes", instead: None };
static BELL: ActorType = ActorType { name: "bell", meaning: "Rings", instead: Some("wait") };

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn registry() -> (Arc<ManualClock>, Actors) {
    let clock = Arc::new(ManualClock::new());
    let shared: SharedClock = clock.clone();
    (clock, Actors::new(&shared))
}

fn of(actors: &Actors, name: &str) -> ActorReport {
    actors.look().into_iter().find(|report| report.of == name).unwrap()
}

#[test]
fn u9_what_several_threads_write_is_told_as_one_type() {
    let (_clock, actors) = registry();
    let (one, two, bell) = (actors.probe(&CLERK), actors.probe(&CLERK), actors.probe(&BELL));
    one.done("write", ms(10), || Some("aa".to_owned()));
    two.done("read", ms(30), || Some("bb".to_owned()));
    let ringing = bell.born();
    one.set_load(3, 5, 4);
    let names: Vec<String> = actors.look().into_iter().map(|report| report.of).collect();
    assert_eq!(names, ["bell", "clerk"]);
    let clerk = of(&actors, "clerk");
    assert_eq!((clerk.live, clerk.waiting, clerk.waiting_max, clerk.handled), (3, 5, 4, 2));
    assert!((10.0..12.0).contains(&clerk.p50_ms), "{clerk:?}");
    assert_eq!((clerk.max_ms, clerk.instead), (30.0, None));
    let told = of(&actors, "bell");
    assert_eq!((told.live, told.handled, told.p99_ms), (1, 0, 0.0));
    assert_eq!(told.instead.as_deref(), Some("wait"));
    let slow = actors.slowest(Some("clerk"));
    let slow: Vec<_> =
        slow.iter().map(|one| (one.message.as_str(), one.actor.as_deref(), one.took_ms)).collect();
    assert_eq!(slow, [("read", Some("bb"), 30.0), ("write", Some("aa"), 10.0)]);
    assert!(actors.slowest(Some("nobody")).is_empty() && actors.find("nobody").is_none());
    drop(ringing);
    assert_eq!((of(&actors, "bell").live, actors.find("bell")), (0, Some(&BELL)));
}

#[test]
fn u9_times_are_those_of_two_windows_and_counts_those_of_all() {
    let (clock, actors) = registry();
    let probe = actors.probe(&CLERK);
    probe.done("write", ms(900), || None);
    actors.turn_over();
    probe.done("write", ms(10), || None);
    let clerk = of(&actors, "clerk");
    assert_eq!((clerk.handled, clerk.max_ms), (2, 900.0));
    actors.turn_over();
    let clerk = of(&actors, "clerk");
    assert_eq!((clerk.handled, clerk.max_ms), (2, 10.0), "the first window is over");
    actors.turn_over();
    let clerk = of(&actors, "clerk");
    assert_eq!((clerk.handled, clerk.max_ms, clerk.p99_ms), (2, 0.0, 0.0));
    assert_eq!(actors.slowest(None).len(), 2, "what was slow is remembered for longer");
    clock.advance(REMEMBERED + ms(1));
    actors.turn_over();
    assert!(actors.slowest(None).is_empty());
}

#[test]
fn u9_a_message_takes_from_its_beginning_until_it_is_done_or_dropped() {
    let (clock, actors) = registry();
    let probe = actors.probe(&BELL);
    let handling = probe.begin("renew");
    clock.advance(ms(40));
    drop(handling);
    assert_eq!(of(&actors, "bell").max_ms, 40.0);
    let slow = actors.slowest(None);
    let at_ms = crate::clock::Clock::wall_ms(&*clock);
    assert_eq!((slow[0].message.as_str(), slow[0].at_ms), ("renew", at_ms));
}

#[test]
fn u9_an_actor_that_is_lost_in_a_panic_is_counted() {
    let (_clock, actors) = registry();
    let probe = actors.probe(&BELL);
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _alive = probe.born();
        panic!("the bell cracks");
    }));
    assert!(panic.is_err());
    drop(probe.born());
    assert_eq!((of(&actors, "bell").live, of(&actors, "bell").restarts), (0, 1));
}

struct Ringer(Probe);

impl Actor for Ringer {
    type Context = Context<Self>;
}

/// Rings when it is let.
struct Ring(oneshot::Receiver<()>);

impl Message for Ring {
    type Result = ();
}

impl Handler<Ring> for Ringer {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, Ring(let_go): Ring, _ctx: &mut Context<Self>) -> Self::Result {
        let handling = self.0.take("ring");
        let rung = async move {
            let_go.await.ok();
            drop(handling);
        };
        AtomicResponse::new(Box::pin(rung.into_actor(self)))
    }
}

#[actix_rt::test]
async fn u9_what_is_in_a_mailbox_is_seen_to_wait() {
    let (_clock, actors) = registry();
    let probe = actors.probe(&BELL);
    let mailbox = Mailbox::new(Ringer(probe.clone()).start(), probe);
    let (first, first_rings) = oneshot::channel();
    let (second, second_rings) = oneshot::channel();
    let answers = (mailbox.send(Ring(first_rings)), mailbox.send(Ring(second_rings)));
    assert_eq!(of(&actors, "bell").waiting, 2);
    first.send(()).unwrap();
    answers.0.await.unwrap();
    second.send(()).unwrap();
    answers.1.await.unwrap();
    let bell = of(&actors, "bell");
    assert_eq!((bell.waiting, bell.waiting_max, bell.handled), (0, 0, 2));
    let again = mailbox.downgrade().upgrade().unwrap();
    let (third, third_rings) = oneshot::channel();
    drop(third);
    again.send(Ring(third_rings)).await.unwrap();
    assert_eq!(of(&actors, "bell").handled, 3, "it is the same actor");
}
