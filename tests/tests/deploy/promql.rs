//! Reads as much of PromQL as it takes to know which metrics, labels and values an expression speaks of, and checks them
//! against what the program writes. Whether it is PromQL at all is for promtool to say.

use understudy::runtime::telemetry::{Label, Metric, MetricKind};

/// What Prometheus itself adds to each series.
const OF_TARGET: [&str; 2] = ["job", "instance"];
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
/// Functions that make sense of what only grows, and of nothing else.
const OF_COUNTERS: [&str; 3] = ["rate", "increase", "irate"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Sign(char),
    /// A number, a time, or anything else that names nothing.
    Other,
}

/// One metric in an expression.
#[derive(Debug)]
struct Use {
    name: String,
    /// Label, comparison, value.
    matchers: Vec<(String, String, String)>,
    /// The function before it, and whether it is given more than the present value.
    function: String,
    over_time: bool,
}

/// Checks an expression; returns the metrics in it.
///
/// # Panics
/// When something in it is not written by the program.
pub(super) fn check(expression: &str) -> Vec<&'static Metric> {
    let tokens = tokens(expression);
    let (uses, groups) = parse(&tokens);
    assert!(!uses.is_empty(), "no metric in {expression}");
    let mut found = Vec::new();
    let mut labels: Vec<&str> = OF_TARGET.to_vec();
    for one in &uses {
        // Written by Prometheus about each node.
        if one.name == "up" {
            continue;
        }
        let (metric, part) = known(&one.name)
            .unwrap_or_else(|| panic!("{}: no such metric in {expression}", one.name));
        is_used_well(one, metric, part, expression);
        labels.extend(metric.labels.iter().map(|label| label.name));
        labels.extend((part == Part::Bucket).then_some("le"));
        found.push(metric);
    }
    for group in groups {
        assert!(
            labels.contains(&group.as_str()),
            "no metric in {expression} has the label {group}"
        );
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Bucket,
    SumOrCount,
}

/// Finds the metric of a name in an expression; histograms are there in three parts only.
fn known(name: &str) -> Option<(&'static Metric, Part)> {
    let find = |name: &str| understudy::metrics().find(|metric| metric.name == name);
    let is_histogram = |metric: &&Metric| metric.kind == MetricKind::Histogram;
    let part = |end: &str, part| Some((find(name.strip_suffix(end)?).filter(is_histogram)?, part));
    part("_bucket", Part::Bucket)
        .or_else(|| part("_sum", Part::SumOrCount))
        .or_else(|| part("_count", Part::SumOrCount))
        .or_else(|| Some((find(name).filter(|metric| !is_histogram(metric))?, Part::Whole)))
}

fn is_used_well(one: &Use, metric: &Metric, part: Part, expression: &str) {
    let grows = metric.kind != MetricKind::Gauge;
    let counts = OF_COUNTERS.contains(&one.function.as_str());
    assert!(
        !one.over_time || grows == counts,
        "{} is no use of a {:?} in {expression}",
        one.function,
        metric.kind
    );
    assert!(!grows || one.over_time, "{} only grows: {expression} needs a rate of it", one.name);
    for (name, comparison, value) in &one.matchers {
        let of_metric = metric.labels.iter().find(|label| label.name == name);
        let of_bucket = part == Part::Bucket && name == "le";
        let of_target = OF_TARGET.contains(&name.as_str());
        assert!(
            of_metric.is_some() || of_bucket || of_target,
            "{} has no label {name}: {expression}",
            one.name
        );
        let Some(Label { values, .. }) = of_metric.filter(|label| !label.values.is_empty()) else {
            continue;
        };
        let alternatives: Vec<&str> =
            if comparison.ends_with('~') { value.split('|').collect() } else { vec![value] };
        for value in alternatives {
            assert!(
                values.contains(&value),
                "{name} of {} is never {value}: {expression}",
                one.name
            );
        }
    }
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut rest = expression.chars().peekable();
    let mut tokens = Vec::new();
    let is_inside =
        |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':' | '.');
    while let Some(letter) = rest.next() {
        match letter {
            '"' | '\'' => {
                let text: String =
                    std::iter::from_fn(|| rest.next_if(|next| *next != letter)).collect();
                rest.next();
                tokens.push(Token::Text(text));
            }
            // A variable of the dashboard stands for a time here, or for a text in quotes.
            '$' | '0'..='9' => {
                while rest.next_if(is_inside).is_some() {}
                tokens.push(Token::Other);
            }
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                let more = std::iter::from_fn(|| rest.next_if(is_inside));
                tokens.push(Token::Name(std::iter::once(letter).chain(more).collect()));
            }
            _ if letter.is_whitespace() => {}
            sign => tokens.push(Token::Sign(sign)),
        }
    }
    tokens
}

/// The metrics of an expression, and the labels that it groups by.
fn parse(tokens: &[Token]) -> (Vec<Use>, Vec<String>) {
    let (mut uses, mut groups, mut function) = (Vec::new(), Vec::new(), String::new());
    let mut place = 0;
    while let Some(token) = tokens.get(place) {
        place += 1;
        let Token::Name(name) = token else { continue };
        if WORDS.contains(&name.as_str()) {
            continue;
        }
        let opens = tokens.get(place) == Some(&Token::Sign('('));
        if GROUPING.contains(&name.as_str()) && opens {
            let inside = tokens[place + 1..].iter().take_while(|token| **token != Token::Sign(')'));
            groups.extend(inside.filter_map(|token| match token {
                Token::Name(label) => Some(label.clone()),
                Token::Text(_) | Token::Sign(_) | Token::Other => None,
            }));
            place += tokens[place..].iter().take_while(|token| **token != Token::Sign(')')).count();
        } else if opens || GROUPING.iter().any(|word| is_name(tokens.get(place), word)) {
            function.clone_from(name);
        } else {
            let matchers = matchers(&tokens[place..]);
            place += matchers.1;
            let over_time = tokens.get(place) == Some(&Token::Sign('['));
            uses.push(Use {
                name: name.clone(),
                matchers: matchers.0,
                function: function.clone(),
                over_time,
            });
        }
    }
    (uses, groups)
}

fn is_name(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Name(name)) if name == word)
}

/// What stands in braces, and how many tokens that is.
fn matchers(tokens: &[Token]) -> (Vec<(String, String, String)>, usize) {
    if tokens.first() != Some(&Token::Sign('{')) {
        return (Vec::new(), 0);
    }
    let end =
        tokens.iter().position(|token| *token == Token::Sign('}')).expect("a brace is closed");
    let each = tokens[1..end].split(|token| *token == Token::Sign(','));
    let each = each.filter(|part| !part.is_empty()).map(|part| {
        let (Some(Token::Name(label)), Some(Token::Text(value))) = (part.first(), part.last())
        else {
            panic!("{part:?} compares no label")
        };
        let comparison = part[1..part.len() - 1].iter().map(|token| match token {
            Token::Sign(sign) => *sign,
            Token::Name(_) | Token::Text(_) | Token::Other => panic!("{part:?} compares no label"),
        });
        (label.clone(), comparison.collect(), value.clone())
    });
    (each.collect(), end + 1)
}

#[test]
fn what_is_right_is_accepted_with_its_metrics() {
    let names = |expression| check(expression).iter().map(|metric| metric.name).collect::<Vec<_>>();
    assert_eq!(names(r#"sum by (job) (leader_is_leader{job="$job"}) == 0"#), ["leader_is_leader"]);
    let quantile = r#"histogram_quantile(0.99, sum by (le, route) (rate(understudy_http_request_duration_seconds_bucket{instance=~"$node"}[$__rate_interval])))"#;
    assert_eq!(names(quantile), ["understudy_http_request_duration_seconds"]);
    let both = r#"max(job_runs_active{state="queued"}) > 100 and deriv(job_runs_active{state=~"queued|running"}[30m]) > 0"#;
    assert_eq!(names(both).len(), 2);
    assert_eq!(names(r#"up{job="understudy"} == 0"#), [""; 0]);
}

#[test]
fn what_is_wrong_is_found() {
    let wrong = [
        ("a name", "sum(leader_is_leder) == 0"),
        ("a histogram without its part", "rate(leader_renew_seconds[5m])"),
        ("a label", r#"leader_is_leader{node="a"}"#),
        ("a value", r#"job_runs_active{state="ended"}"#),
        ("one of several values", r#"job_runs_active{state=~"queued|ended"}"#),
        ("a group", "sum by (route) (leader_is_leader)"),
        ("a counter as it is", "leader_terms_total > 5"),
        ("a rate of a gauge", "rate(leader_is_leader[5m])"),
        ("a bucket's label", r#"rate(leader_renew_seconds_count{le="1"}[5m])"#),
    ];
    for (what, expression) in wrong {
        assert!(std::panic::catch_unwind(|| check(expression)).is_err(), "{what}: {expression}");
    }
}
