//! What this process is: `NODE_*`, `DATA_DIR`, `WEB_ROOT`, `ENV_FILE`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::reader::{Reader, list};
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

// Without a section of its own: it is handed all options and takes these.
#[derive(Deserialize)]
struct Raw {
    node_id: Option<String>,
    node_labels: Option<String>,
    data_dir: Option<String>,
    web_root: Option<String>,
    env_file: Option<String>,
}

impl NodeConfig {
    /// Reads the section; the port of the public listener is part of the default name.
    pub(super) fn read(read: &mut Reader, port: u16) -> Self {
        let raw: Raw = read.section("");
        read.show("UNDERSTUDY_ENV_FILE", raw.env_file.as_deref().unwrap_or_default().trim());
        Self {
            id: node_name(read, raw.node_id.as_deref(), port),
            labels: read.parsed(
                "UNDERSTUDY_NODE_LABELS",
                raw.node_labels.as_deref(),
                "key=value pairs separated by commas, of A-Z a-z 0-9 . _ - /",
                |text| list(text).map(label).collect(),
            ),
            data_dir: read.parsed(
                "UNDERSTUDY_DATA_DIR",
                raw.data_dir.as_deref(),
                "a path",
                |text| Some(PathBuf::from(text)),
            ),
            web_root: read.optional(
                "UNDERSTUDY_WEB_ROOT",
                raw.web_root.as_deref(),
                "a folder that exists",
                |text| Some(PathBuf::from(text)).filter(|path| path.is_dir()),
            ),
        }
    }
}

fn node_name(read: &mut Reader, given: Option<&str>, port: u16) -> NodeName {
    const NAME: &str = "UNDERSTUDY_NODE_ID";
    let name = read
        .optional(NAME, given, "1 to 64 of A-Z a-z 0-9 . _ -", |text| text.parse().ok())
        .unwrap_or_else(|| default_name(port));
    read.show(NAME, name.as_str());
    name
}

fn default_name(port: u16) -> NodeName {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    // Nodes that take any free port would all be called the same: there the process tells them apart.
    let number = if port == 0 { std::process::id() } else { u32::from(port) };
    let end = format!("-{number}");
    let host: String = host.chars().take(64 - end.len()).collect();
    NodeName::from_lossy(&(host + &end))
}

fn label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let allowed = |text: &str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
    };
    (!key.is_empty() && allowed(key) && allowed(value)).then(|| (key.to_owned(), value.to_owned()))
}
