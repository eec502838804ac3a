use futures_util::FutureExt as _;
use tracing::info;
use tracing::subscriber::with_default;
use tracing_subscriber::filter::EnvFilter;

use super::super::{Colours, json, text};
use super::*;
use crate::ids::NodeName;

fn node() -> NodeName {
    "web-1".parse().unwrap()
}

fn origin(tail: &Tail) -> Origin {
    let switched = tail.0.switched.load(Ordering::Acquire);
    Origin { level: Level::INFO, target: "a::b".to_owned(), switched }
}

fn keep(tail: &Tail, number: usize) {
    tail.keep(origin(tail), format!("line {number}\n").as_bytes());
}

fn texts(lines: &[Arc<Line>]) -> Vec<&str> {
    lines.iter().map(|line| line.written.as_str()).collect()
}

fn now(listening: &mut Listening) -> Option<Heard> {
    listening.next().now_or_never()
}

#[test]
fn u14_lines_are_kept_while_it_is_on_only_and_are_those_of_the_log() {
    let tail = Tail::new();
    let writer = watched(io::sink, &tail);
    with_default(json(EnvFilter::new("info"), &node(), writer), || {
        info!("before");
        tail.switch(true);
        info!(duration_ms = 3, place = "a\u{1b}[2J\nb", "while it is on");
        tracing::debug!("not asked for");
        tail.switch(false);
        info!("after");
        tail.switch(true);
        info!("again");
    });
    let (lines, _listening) = tail.listen(KEPT).unwrap();
    assert_eq!(lines.len(), 1, "those before went: {lines:?}");
    assert_eq!(lines[0].told().1, "again");
    assert!(lines[0].target.starts_with("understudy_runtime::telemetry::tail"));
}

#[test]
fn u14_a_line_reads_the_same_in_whichever_form_it_was_written() {
    let say = || {
        let _request = tracing::info_span!("request", id = 7).entered();
        info!(duration_ms = 3, place = "a\u{1b}[2J\nb", "session loaded");
    };
    for is_json in [true, false] {
        let tail = Tail::new();
        tail.switch(true);
        let writer = watched(io::sink, &tail);
        if is_json {
            with_default(json(EnvFilter::new("info"), &node(), writer), say);
        } else {
            with_default(text(EnvFilter::new("info"), &node(), Colours::On, writer), say);
        }
        let (lines, _listening) = tail.listen(KEPT).unwrap();
        let (at, text) = lines[0].told();
        assert!(at.ends_with('Z') && !text.contains(char::is_control), "{at} {text:?}");
        assert!(text.starts_with("session loaded duration_ms=3 place="), "{text}");
        assert!(text.ends_with(" | request{id=7}"), "{text}");
    }
}

#[test]
fn u14_who_follows_gets_the_latest_and_then_each_line_once() {
    let tail = Tail::new();
    tail.switch(true);
    (0..5).for_each(|number| keep(&tail, number));
    let (lines, mut listening) = tail.listen(2).unwrap();
    assert_eq!(texts(&lines), ["line 3", "line 4"]);
    assert_eq!(now(&mut listening), None);
    (5..8).for_each(|number| keep(&tail, number));
    let Some(Heard::Lines(lines)) = now(&mut listening) else { panic!("there are lines") };
    assert_eq!(texts(&lines), ["line 5", "line 6", "line 7"]);
    assert_eq!(now(&mut listening), None);
}

#[test]
fn u14_who_is_too_slow_is_told_how_many_lines_are_gone() {
    let tail = Tail::new();
    tail.switch(true);
    let (_, mut listening) = tail.listen(0).unwrap();
    (0..KEPT + 7).for_each(|number| keep(&tail, number));
    assert_eq!(now(&mut listening), Some(Heard::Lost(7)));
    let Some(Heard::Lines(lines)) = now(&mut listening) else { panic!("there are lines") };
    assert_eq!((lines.len(), lines[0].number), (KEPT, 7));
}

#[tokio::test]
async fn u14_who_waits_hears_of_a_line_and_of_the_end() {
    let tail = Tail::new();
    tail.switch(true);
    let (_, mut listening) = tail.listen(0).unwrap();
    let waiting = tokio::spawn(async move { (listening.next().await, listening.next().await) });
    tokio::task::yield_now().await;
    keep(&tail, 0);
    tokio::task::yield_now().await;
    tail.switch(false);
    let limit = std::time::Duration::from_secs(10);
    let (first, second) = tokio::time::timeout(limit, waiting).await.unwrap().unwrap();
    assert!(matches!(first, Heard::Lines(lines) if texts(&lines) == ["line 0"]));
    assert_eq!(second, Heard::Off);
}

#[test]
fn u14_who_begins_to_follow_just_after_it_went_off_is_told_so() {
    let tail = Tail::new();
    tail.switch(true);
    tail.switch(false);
    let (lines, mut listening) = tail.listen(KEPT).unwrap();
    assert_eq!((lines.len(), now(&mut listening)), (0, Some(Heard::Off)));
}

#[test]
fn u14_only_so_many_follow_at_a_time() {
    let tail = Tail::new();
    tail.switch(true);
    let mut all: Vec<_> = (0..MOST_LISTENERS).map(|_| tail.listen(0).unwrap()).collect();
    assert!(tail.listen(0).is_none());
    all.pop();
    assert!(tail.listen(0).is_some());
}

#[test]
fn u14_a_late_writer_puts_no_old_line_in_the_place_of_a_newer_one() {
    let tail = Tail::new();
    tail.switch(true);
    (0..=KEPT).for_each(|number| keep(&tail, number));
    let newest = tail.0.places[0].load_full().unwrap();
    assert_eq!(newest.number, u64::try_from(KEPT).unwrap());
    tail.0.put(&Arc::new(Line { number: 0, ..line_like(&newest) }));
    assert_eq!(tail.0.places[0].load_full().unwrap().number, newest.number);
}

fn line_like(line: &Line) -> Line {
    let Line { number, level, switched, cut_from, .. } = *line;
    let (target, written) = (line.target.clone(), line.written.clone());
    Line { number, level, target, switched, written, cut_from }
}

#[test]
fn u14_what_was_written_before_the_end_is_not_shown_after_the_next_beginning() {
    let tail = Tail::new();
    tail.switch(true);
    let late = origin(&tail);
    tail.switch(false);
    tail.switch(true);
    // These writers stood still meanwhile.
    tail.keep(late.clone(), b"of before\n");
    let (lines, mut listening) = tail.listen(KEPT).unwrap();
    assert!(lines.is_empty(), "{lines:?}");
    tail.keep(late, b"of before\n");
    keep(&tail, 1);
    let Some(Heard::Lines(lines)) = now(&mut listening) else { panic!("there is a line") };
    assert_eq!(texts(&lines), ["line 1"]);
}

#[test]
fn a_line_of_any_length_is_kept_in_part() {
    let tail = Tail::new();
    tail.switch(true);
    tail.keep(origin(&tail), "ä".repeat(LONGEST).as_bytes());
    let (lines, _listening) = tail.listen(1).unwrap();
    assert_eq!(lines[0].written.len(), LONGEST);
}

#[test]
fn u14_of_a_line_that_is_too_long_time_and_message_are_told_and_that_it_was_cut() {
    let long = "x".repeat(LONGEST);
    let say = || {
        info!(place = long.as_str(), "session loaded");
        info!("{long}");
    };
    for is_json in [true, false] {
        let tail = Tail::new();
        tail.switch(true);
        let writer = watched(io::sink, &tail);
        if is_json {
            with_default(json(EnvFilter::new("info"), &node(), writer), say);
        } else {
            with_default(text(EnvFilter::new("info"), &node(), Colours::Off, writer), say);
        }
        let (lines, _listening) = tail.listen(KEPT).unwrap();
        for (line, begins) in lines.iter().zip(["session loaded", "xxxx"]) {
            let (at, text) = line.told();
            assert!(at.ends_with('Z') && text.starts_with(begins), "{at} {text}");
            assert!(text.ends_with(" bytes)") && text.contains("(cut: the line has 16"), "{text}");
        }
        assert_eq!(lines.len(), 2);
    }
}
