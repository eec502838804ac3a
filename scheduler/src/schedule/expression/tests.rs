use super::*;

/// What is written, and how croner gets it.
fn normal(text: &str) -> String {
    Expression::parse(text).unwrap().to_string()
}

fn problem(text: &str) -> String {
    Expression::parse(text).unwrap_err()
}

#[test]
fn expressions_are_brought_into_their_plainest_form() {
    assert_eq!(normal("0 2 * * *"), "0 0 2 * * *");
    assert_eq!(normal("  */10 0  2 ? jan-mar Mon,fri "), "*/10 0 2 * 1-3 1,5");
    assert_eq!(normal("0 0 LW * 5L"), "0 0 0 LW * 5L");
    assert_eq!(normal("0 0 15w * tue#2"), "0 0 0 15W * 2#2");
    assert_eq!(normal("0 0 13 * +fri"), "0 0 0 13 * +5");
    assert_eq!(normal("0 0 * * FRI-SUN"), "0 0 0 * * 5-7");
    assert_eq!(normal("0 0 */1 * 7"), "0 0 0 * * 7");
    assert_eq!(normal("@Daily"), "0 0 0 * * *");
    assert_eq!(normal("@midnight"), normal("@daily"));
    assert_eq!(normal("@weekly"), "0 0 0 * * 0");
    assert_eq!(normal("@annually"), "0 0 0 1 1 *");
}

#[test]
fn croner_accepts_whatever_is_accepted_here() {
    for text in [
        "* * * * * *",
        "0 0 L,15 * *",
        "0 0 1W,15W,LW * *",
        "0 0 * * 0,7",
        "0 0 * * SUN-SAT",
        "5-59/15 9-17 1-31/2 JAN,JUN-AUG MON-FRI",
        "0 0 * * 1#5,0L",
        "0 0 13 * +FRI",
        "*/59 */59 */23 */30 */11 */6",
    ] {
        let plain = normal(text);
        plain.parse::<croner::Cron>().unwrap_or_else(|error| panic!("{text} {plain}: {error}"));
    }
}

#[test]
fn errors_name_what_would_be_right() {
    for (text, right) in [
        ("", "`0 2 * * *`"),
        ("   ", "must not be empty"),
        ("0 2 * *", "5 fields (minute, hour, day of month, month, day of week)"),
        ("0 0 2 * * * 2026", "no field for years"),
        ("60 2 * * *", "0 to 59 in the minute field, not `60`"),
        ("0 24 * * *", "0 to 23 in the hour field"),
        ("0 0 0 * *", "1 to 31"),
        ("0 0 * 13 *", "1 to 12 or JAN to DEC"),
        ("0 0 * MON *", "1 to 12 or JAN to DEC"),
        ("0 0 * * JAN", "SUN to SAT"),
        ("0 0 * * MONDAY", "SUN to SAT"),
        ("0 0 * * 8", "0 to 7"),
        ("*/90 * * * *", "step of 1 to 59"),
        ("*/60 * * * *", "step of 1 to 59"),
        ("*/0 * * * *", "step of 1 to 59"),
        ("0 */24 * * *", "step of 1 to 23"),
        ("0-10/20 * * * *", "step of 1 to 10"),
        ("5/15 * * * *", "`5-59/15`"),
        ("/15 * * * *", "`0-59/15`"),
        ("0 22-2 * * *", "`22-23,0-2`"),
        ("0 0 * * L", "`5L`"),
        ("0 0 * * 2#6", "1 to 5 after `#`"),
        ("0 0 L,LW * *", "one of them"),
        ("1,,2 * * * *", "empty item"),
        ("*,5 * * * *", "stands alone"),
        ("0 ? * * *", "only for days"),
        ("+1 * * * *", "0 to 59"),
        ("-1 * * * *", "0 to 59"),
        ("L * * * *", "0 to 59"),
        ("@reboot", "when it starts"),
        ("@every 5m", "kind `every`"),
        ("@fortnightly", "`@weekly`"),
        ("@é", "`@weekly`"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(right), "{text}: {problem}");
        assert!(problem.starts_with("must "), "it goes on after the field's name: {problem}");
    }
    assert!(problem(&"*".repeat(1_000)).contains("at most 256"));
    assert!(problem("\u{7}\u{7}bell * * * *").contains("`BELL`"), "no control characters");
}

#[test]
fn jobs_of_a_time_of_the_day_are_told_from_those_that_follow_the_clock() {
    for fixed in ["30 2 * * *", "0,30 2,3 * * *", "*/10 30 2 * * *", "@daily", "0 2 */2 * 1-5"] {
        assert!(!Expression::parse(fixed).unwrap().is_interval(), "{fixed}");
    }
    for interval in ["* 2 * * *", "*/20 2 * * *", "0 */2 * * *", "0 1-4 * * *", "@hourly"] {
        assert!(Expression::parse(interval).unwrap().is_interval(), "{interval}");
    }
}
