//! What nodes tell about themselves, for the oracles of tests.

use std::time::Duration;

use crate::{Client, Cluster, Node};

const LIMIT: Duration = Duration::from_secs(5);

impl Node {
    /// The sum of all series of a metric now; 0 when nothing was counted yet.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, "").await
    }

    /// The same of those series that have a label: `why="told"`, say.
    pub async fn metric_of(&self, name: &str, label: &str) -> f64 {
        let client = Client::with_timeout(LIMIT);
        let client = match self.operator_token() {
            Some(token) => client.bearing(token),
            None => client,
        };
        let answer = client.get(self.admin_url(), "/metrics").await;
        let text = answer.unwrap_or_else(|error| panic!("{}: {error}", self.name())).expect(200);
        sum(&text.text, name, label)
    }
}

impl Cluster {
    /// The sum of a metric over all nodes now.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, "").await
    }

    /// The same of those series that have a label.
    pub async fn metric_of(&self, name: &str, label: &str) -> f64 {
        let mut total = 0.0;
        for node in &self.nodes {
            total += node.metric_of(name, label).await;
        }
        total
    }
}

/// Adds up the lines `name 1`, `name{label="x"} 2` in which a label stands.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let counts = rest.starts_with([' ', '{']) && rest.contains(label);
        counts.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    series.sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn all_series_of_a_metric_are_added_and_no_other() {
        let text =
            "# TYPE reads counter\nreads{where=\"a b\"} 2\nreads{where=\"c\"} 3\nreads_b 9\n";
        assert!((sum(text, "reads", "") - 5.0).abs() < f64::EPSILON);
        assert!((sum(text, "reads", "where=\"c\"") - 3.0).abs() < f64::EPSILON);
        assert!((sum(text, "reads_b", "") - 9.0).abs() < f64::EPSILON);
        assert!(sum(text, "writes", "").abs() < f64::EPSILON);
    }
}
