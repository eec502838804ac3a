//! What this process is: `NODE_*`, `DATA_DIR`, `WEB_ROOT`, `ENV_FILE`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ids::NodeName;

/// What this process is; differs from node to node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// `NODE_ID`: the name of this node, unique in the cluster.
    pub id: NodeName,
    /// `NODE_LABELS`: what jobs may ask of the node they run on.
    pub labels: BTreeMap<String, String>,
    /// `DATA_DIR`: where this node keeps files; not yet created.
    pub data_dir: PathBuf,
    /// `WEB_ROOT`: a folder with a static web application to serve.
    pub web_root: Option<PathBuf>,
}
