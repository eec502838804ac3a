//! Starts nodes again that have ended, as systemd or Kubernetes do.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::Cluster;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// A process that has ended can be asked for its status at once.
const STATUS: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a process ended with that was killed.
pub(super) const KILLED: i32 = -1;

/// Watches over the nodes of a cluster while a test waits for something.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    /// Which nodes have ended and were started again, and with which status they ended.
    pub(super) ended: Vec<(usize, i32)>,
    /// Nodes that it leaves where they are.
    pub(super) spared: Vec<usize>,
}

impl Supervisor {
    /// Watches until a question has an answer.
    pub(super) async fn until<T>(
        &mut self,
        cluster: &mut Cluster,
        (what, limit): (&str, Duration),
        mut question: impl AsyncFnMut(&Cluster) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            self.look(cluster).await;
            let answer = tokio::time::timeout(PATIENCE, question(cluster)).await;
            if let Ok(Some(answer)) = answer {
                return answer;
            }
            let ended = &self.ended;
            assert!(begun.elapsed() < limit, "waited {limit:?} in vain until {what}; {ended:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&mut self, cluster: &mut Cluster) {
        for (number, node) in cluster.nodes.iter_mut().enumerate() {
            if node.is_running() || self.spared.contains(&number) {
                continue;
            }
            let status = node.wait_exit(STATUS).await;
            self.ended.push((number, status.code().unwrap_or(KILLED)));
            node.start_again();
        }
    }

    /// With which statuses a node has ended.
    pub(super) fn statuses(&self, number: usize) -> Vec<i32> {
        let of_node = self.ended.iter().filter(|(of, _)| *of == number);
        of_node.map(|(_, status)| *status).collect()
    }
}
