//! Frames of clusters of all sizes, at all sizes.

use serde_json::json;

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn snapshot(nodes: usize, runs: usize, problems: usize) -> Snapshot {
    let node = |number: usize| {
        json!({
            "record": {
                "id": format!("node-{number}#0000000000000001"), "state": "ready", "version": "0.1.0",
                "started_ms": NOW - 60_000, "public_addr": "10.0.0.1:8080", "config_hash": "0123456789abcdef",
            },
            "age_ms": 400, "live": number != 1, "this": number == 0,
        })
    };
    let run = |number: usize| {
        json!({
            "id": number, "job": "nightly-report", "state": "running", "node": "node-1#0000000000000001",
            "started_ms": NOW - 5_000, "attempt": 1,
            "progress": { "stages": [{ "name": "shops", "done": 1, "total": 4 }] },
        })
    };
    let problem = |number: usize| {
        json!({
            "code": format!("code_{number}"), "severity": "critical", "node": "node-1",
            "text": "something that takes a good many words to tell, and more than eighty places on a line",
        })
    };
    Snapshot {
        about: Ok(json!({ "cluster": "shop", "node": "node-0#0000000000000001" })),
        nodes: Ok(json!({ "nodes": (0..nodes).map(node).collect::<Vec<_>>() })),
        leader: Ok(
            json!({ "leaderNodeId": "node-0", "since_ms": NOW - 7_200_000, "frozen": true }),
        ),
        scheduler: Ok(json!({ "paused": false, "runs": { "running": runs } })),
        runs: Ok(json!({ "runs": (0..runs).map(run).collect::<Vec<_>>(), "next": null })),
        problems: Ok(json!({ "problems": (0..problems).map(problem).collect::<Vec<_>>() })),
    }
}

fn lines(snapshot: &Snapshot, size: (usize, usize)) -> Vec<String> {
    frame(snapshot, "http://127.0.0.1:9090", Size::new(size, false), NOW)
}

#[test]
fn a_small_cluster_is_told_in_full_on_a_small_terminal() {
    let told = lines(&snapshot(3, 2, 1), (80, 24));
    let text = told.join("\n");
    for part in [
        "understudy cluster shop 22:13:20Z node-0 at http://127.0.0.1:9090",
        "leader node-0 since 2 h ago frozen | jobs: running=2",
        "PROBLEMS 1",
        "critical code_0 node-1 something",
        "NODES 3, 1 silent",
        "node-0  leads   ready  400 ms  1 min ago",
        "RUNS 2",
        "shops 1/4",
        "q ends",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn every_frame_fits_its_terminal() {
    for (nodes, runs, problems) in [(0, 0, 0), (1, 0, 0), (3, 2, 1), (50, 100, 30), (0, 100, 0)] {
        for size in [(80, 24), (20, 12), (200, 60), (1, 1)] {
            let told = lines(&snapshot(nodes, runs, problems), size);
            assert_eq!(told.len(), size.1.max(LOWEST), "{size:?}");
            let widest = told.iter().map(|line| width(line)).max().unwrap();
            assert!(widest <= size.0.max(NARROWEST), "{size:?}: {}", told.join("\n"));
        }
    }
}

#[test]
fn what_does_not_fit_is_counted() {
    let text = lines(&snapshot(50, 100, 30), (80, 24)).join("\n");
    assert_eq!(text.matches("... and ").count(), 3, "{text}");
    assert!(text.contains("NODES 50") && text.contains("RUNS 100") && text.contains("PROBLEMS 30"));
}

#[test]
fn what_cannot_be_learned_is_told_and_the_rest_is_shown() {
    let mut snapshot = snapshot(2, 0, 0);
    snapshot.problems = Err("The token does not allow this".to_owned());
    snapshot.leader = Ok(json!({ "leaderNodeId": null }));
    let pause = json!({ "by": "operator", "why": "upgrade\u{1b}[2J", "at_ms": NOW - 60_000 });
    snapshot.scheduler = Ok(json!({ "paused": true, "switches": { "pause": pause } }));
    let text = lines(&snapshot, (100, 24)).join("\n");
    for part in [
        "PROBLEMS\nThe token does not allow this",
        "nobody leads",
        "all jobs paused by operator, 1 min ago: upgrade",
        "NODES 2",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn colours_take_no_place() {
    let told = frame(&snapshot(3, 3, 3), "http://a", Size::new((40, 24), true), NOW);
    for line in &told {
        let mut plain = String::new();
        for (number, piece) in line.split('\x1b').enumerate() {
            plain.push_str(if number == 0 { piece } else { piece.split_once('m').unwrap().1 });
        }
        assert!(width(&plain) <= 40, "{plain}");
        assert!(
            !line.contains('\x1b') || line.trim_end().ends_with("\x1b[0m") || width(&plain) < 40,
            "{line:?}"
        );
    }
}

#[test]
fn room_goes_to_who_needs_it() {
    assert_eq!(shares([1, 4, 2], 14), [1, 4, 2]);
    assert_eq!(shares([30, 50, 100], 14), [6, 4, 4]);
    assert_eq!(shares([0, 50, 1], 14), [0, 13, 1]);
    assert_eq!(shares([5, 5, 5], 0), [0, 0, 0]);
}
