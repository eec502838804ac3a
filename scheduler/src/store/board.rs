//! Definitions that were read and parsed once, so that a due job costs no parsing.

use std::sync::Arc;

use dashmap::DashMap;

use super::Definition;
use crate::schedule::ZoneName;
use crate::spec::JobName;

/// So many are kept; of more, any is forgotten.
const MOST: usize = 10_000;

/// Definitions by name; one is valid as long as its revision is the one of the cursor.
#[derive(Debug)]
pub(super) struct DefinitionCache {
    known: DashMap<JobName, Arc<Definition>>,
    /// Those that cannot be read here, and of which that was said: the revision by name.
    unreadable: DashMap<String, i64>,
    zone: ZoneName,
}

impl DefinitionCache {
    pub(super) fn new(zone: ZoneName) -> Self {
        Self { known: DashMap::new(), unreadable: DashMap::new(), zone }
    }

    pub(super) fn zone(&self) -> &ZoneName {
        &self.zone
    }

    pub(super) fn get(&self, name: &JobName, revision: i64) -> Option<Arc<Definition>> {
        let known = self.known.get(name)?;
        (known.revision == revision).then(|| Arc::clone(&known))
    }

    /// Whether nobody has said yet that a definition cannot be read here.
    pub(super) fn is_news(&self, name: &str, revision: i64) -> bool {
        if self.unreadable.len() >= MOST {
            self.unreadable.clear();
        }
        self.unreadable.insert(name.to_owned(), revision) != Some(revision)
    }

    pub(super) fn put(&self, definition: &Arc<Definition>) {
        if self.known.len() >= MOST {
            let any = self.known.iter().next().map(|entry| entry.key().clone());
            if let Some(any) = any {
                self.known.remove(&any);
            }
        }
        self.known.insert(definition.spec.name.clone(), Arc::clone(definition));
    }
}
