//! What a specification looks like as JSON, and which ones are refused.

use super::*;

fn spec(schedule: Schedule) -> JobSpec {
    JobSpec::new("report".parse().unwrap(), schedule)
}

fn fields(spec: &JobSpec) -> Vec<&'static str> {
    let zone = "UTC".parse().unwrap();
    spec.check(&zone).err().unwrap_or_default().into_iter().map(|error| error.field).collect()
}

#[test]
fn a_definition_survives_the_way_through_json_and_keeps_its_fingerprint() {
    let mut one = spec(Schedule::Every { every: Duration::from_millis(1_500), anchor_ms: 7 });
    one.timeout = Some(Duration::from_secs(5));
    one.retry = Retry::exponential(3, Duration::from_secs(1));
    one.overlap = Overlap::Allow { max: 2 };
    let json = serde_json::to_string(&one).unwrap();
    let back: JobSpec = serde_json::from_str(&json).unwrap();
    assert_eq!(back, one);
    assert_eq!(back.fingerprint(), one.fingerprint());
    one.priority = 1;
    assert_ne!(back.fingerprint(), one.fingerprint());
}

#[test]
fn the_least_that_must_be_said_is_name_handler_and_schedule() {
    let json = r#"{"name":"a","handler":"h","schedule":{"kind":"cron","expression":"@daily"}}"#;
    let spec: JobSpec = serde_json::from_str(json).unwrap();
    assert_eq!(spec.placement, Placement::Leader);
    assert_eq!(spec.misfire, Misfire::FireOnce);
    assert_eq!(spec.overlap, Overlap::Skip);
    assert_eq!(fields(&spec), [""; 0]);
}

#[test]
fn an_unknown_field_is_refused() {
    let json = r#"{"name":"a","handler":"h","schedule":{"kind":"manual"},"retires":3}"#;
    let error = serde_json::from_str::<JobSpec>(json).unwrap_err().to_string();
    assert!(error.contains("retires"), "{error}");
}

#[test]
fn every_mistake_names_its_field() {
    let mut bad = spec(Schedule::Manual);
    bad.handler = String::new();
    bad.timeout = Some(Duration::ZERO);
    bad.priority = 101;
    bad.concurrency_key = Some("k".to_owned());
    bad.then = vec!["report".parse().unwrap()];
    assert_eq!(fields(&bad), ["handler", "timeout_ms", "priority", "concurrency_key", "then"]);
}

#[test]
fn parameters_are_held_against_their_schema_without_repeating_them() {
    let mut typed = spec(Schedule::Manual);
    typed.params_schema = Some(serde_json::json!({
        "type": "object", "required": ["day"], "properties": {"day": {"type": "string"}}
    }));
    typed.params = serde_json::json!({"day": 77_001});
    let errors = typed.check(&"UTC".parse().unwrap()).unwrap_err();
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    assert!(text.contains("params") && text.contains("/day") && !text.contains("77001"), "{text}");
    typed.params = serde_json::json!({"day": "monday"});
    assert_eq!(fields(&typed), [""; 0]);
    typed.params_schema = Some(serde_json::json!({"type": "no such type"}));
    assert_eq!(fields(&typed), ["params_schema"]);
}

#[test]
fn pauses_between_attempts_follow_the_formula() {
    let seconds = |retry: Retry| -> Vec<Option<u64>> {
        (1..=5).map(|failed| retry.pause_after(failed).map(|pause| pause.as_secs())).collect()
    };
    let second = Duration::from_secs(1);
    assert_eq!(seconds(Retry::never()), [None; 5]);
    assert_eq!(seconds(Retry::fixed(2, second)), [Some(1), Some(1), None, None, None]);
    assert_eq!(seconds(Retry::exponential(4, second)), [Some(1), Some(2), Some(4), Some(8), None]);
    let bounded = Retry { max_delay: Duration::from_secs(3), ..Retry::exponential(9, second) };
    assert_eq!(seconds(bounded), [Some(1), Some(2), Some(3), Some(3), Some(3)]);
}
