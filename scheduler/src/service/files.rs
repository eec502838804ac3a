//! Definitions that a file brings along, and may change while the node runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use understudy_runtime::service::NodeContext;

use super::SchedulerService;
use crate::jobs::Jobs;
use crate::spec::{JobSpec, SpecError};
use crate::store::{DefinitionError, Origin, SyncReport};

/// Brings definitions of a file in force; a cheap clone.
#[derive(Debug, Clone)]
pub struct FileJobs {
    jobs: Jobs,
    node: NodeContext,
    definitions: Arc<ArcSwap<BTreeMap<String, String>>>,
    of_code: Vec<String>,
}

impl FileJobs {
    /// Brings the definitions of a file in force: new and changed ones are taken over, those that no file names any more
    /// are removed.
    ///
    /// # Errors
    /// When a definition is wrong, or the database is away.
    pub async fn bring(&self, specs: &[JobSpec]) -> Result<SyncReport, DefinitionError> {
        if let Some(taken) = specs.iter().find(|spec| self.of_code.contains(&spec.name.to_string()))
        {
            let whose = format!("the program has a job `{}` already", taken.name);
            return Err(DefinitionError::Invalid(vec![SpecError::new("name", whose)]));
        }
        let living = self.living().await?;
        let report = self.jobs.store().sync(specs, Origin::File, &living).await?;
        self.definitions.rcu(|known| {
            let mut known = BTreeMap::clone(known);
            known.retain(|name, _| self.of_code.contains(name));
            known.extend(specs.iter().map(|spec| (spec.name.to_string(), spec.fingerprint())));
            known
        });
        self.jobs.look_around();
        Ok(report)
    }

    /// Gives what other nodes stand for, as of now: who brings a file must not take those for gone that it has not met.
    async fn living(&self) -> Result<Vec<(String, String)>, DefinitionError> {
        let silent_ms = crate::plan::millis(self.node.config.jobs.alive) * 3;
        let own = self.node.node_id.to_string();
        let nodes = self.jobs.store().nodes(silent_ms).await?;
        let others = nodes.into_iter().filter(|node| node.node != own);
        Ok(others.flat_map(|node| node.definitions).collect())
    }

    /// Returns the handle on jobs.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

impl SchedulerService {
    /// Gives what brings the definitions of a file in force, once the service was started.
    #[must_use]
    pub fn file_jobs(&self) -> Option<FileJobs> {
        let started = self.started.get()?;
        Some(FileJobs {
            jobs: started.jobs.clone(),
            node: started.node.clone(),
            definitions: Arc::clone(&started.definitions),
            of_code: started.registry.specs().iter().map(|spec| spec.name.to_string()).collect(),
        })
    }
}
