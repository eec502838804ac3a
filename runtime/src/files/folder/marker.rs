//! The file by which the folder of a cluster is told from every other one, and from the empty place at which it is not mounted.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;

use sea_orm::ConnectionTrait as _;
use tokio::sync::Semaphore;

use super::rights::{Rights, is_on_the_disk_of_the_system};
use super::{DATA, MARKER, STAGING, blocking};
use crate::config::FolderMark;
use crate::database::Database;
use crate::files::contents::ContentError;

/// Gives the number of the folder of this cluster. Where there is none yet, it is the one of this folder, which gets one if it
/// may.
pub(super) async fn identity(
    root: &Path,
    mark_it: FolderMark,
    database: &Database,
    threads: &Arc<Semaphore>,
) -> Result<String, ContentError> {
    if let Some(identity) = known(database).await? {
        return Ok(identity);
    }
    // Where there are files there was a folder: an empty one is not it.
    let mark_it = if holds_files(database).await? { FolderMark::ByHand } else { mark_it };
    let (root, fresh) = (root.to_owned(), format!("{:032x}", rand::random::<u128>()));
    let marked = blocking(threads, move || mark(&root, mark_it, &fresh)).await?;
    agree(database, marked).await
}

/// The number of the folder of this cluster, if it has one.
async fn known(database: &Database) -> Result<Option<String>, ContentError> {
    let sql = "SELECT value FROM us_meta WHERE name = 'files_folder'";
    let query = database.backend().statement(sql, []);
    let row = database.read(move |executor| {
        let query = query.clone();
        Box::pin(async move {
            let row = executor.query_one_raw(query).await?;
            row.map(|row| row.try_get::<String>("", "value")).transpose()
        })
    });
    Ok(row.await?)
}

/// Says whether the contents of some files lie in the folder, in whatever form. Asked once in the life of a cluster.
async fn holds_files(database: &Database) -> Result<bool, ContentError> {
    let query = database
        .backend()
        .statement("SELECT id FROM us_file WHERE place LIKE 'folder%' LIMIT 1", []);
    let row = database.read(move |executor| {
        let query = query.clone();
        Box::pin(async move { Ok(executor.query_one_raw(query).await?.is_some()) })
    });
    Ok(row.await?)
}

/// Notes the number of a folder that was found or just marked. The first one counts: a node that marked another folder, since
/// its own was not mounted, learns here that it is another.
async fn agree(database: &Database, marked: String) -> Result<String, ContentError> {
    let sql = "INSERT INTO us_meta (name, value) VALUES ('files_folder', $1) \
               ON CONFLICT (name) DO NOTHING";
    let insert = database.backend().statement(sql, [marked.clone().into()]);
    let noted = database.step(move |executor| {
        let insert = insert.clone();
        Box::pin(async move { executor.execute_raw(insert).await.map(|_| ()) })
    });
    noted.await?;
    Ok(known(database).await?.unwrap_or(marked))
}

/// Gives the number of a folder; one that has none gets this one, whole or not at all. The folder itself is never made.
fn mark(root: &Path, mark_it: FolderMark, fresh: &str) -> io::Result<String> {
    let (marker, rights) = (root.join(MARKER), Rights::of(root, &[STAGING, DATA])?);
    let found = match fs::read_to_string(&marker) {
        Ok(identity) => Some(identity.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match (&found, mark_it) {
        // Every other empty one would be taken for it.
        (Some(identity), _) if identity.is_empty() => {
            return Err(io::Error::other(format!("{MARKER} is empty: remove it")));
        }
        (None, FolderMark::ByHand) => {
            return Err(io::Error::other(format!(
                "there is no {MARKER} in it: it is not mounted; if this is the folder, and new, put that file into it, with a line of your own"
            )));
        }
        (Some(_), FolderMark::ByHand | FolderMark::ByTheFirstNode)
        | (None, FolderMark::ByTheFirstNode) => {}
    }
    for name in [STAGING, DATA] {
        match rights.make_folder(&root.join(name), root) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    match found {
        Some(identity) => Ok(identity),
        None => write(root, rights, fresh),
    }
}

fn write(root: &Path, rights: Rights, fresh: &str) -> io::Result<String> {
    if is_on_the_disk_of_the_system(root) {
        tracing::warn!(
            path = %root.display(),
            "the folder for files becomes that of the cluster; it lies on the disk of the system: if it should have been mounted, stop, and remove what is in it"
        );
    }
    let marker = root.join(MARKER);
    let draft = root.join(STAGING).join(format!("marker-{fresh}"));
    let mut file = rights.make_file(&draft)?;
    file.write_all(fresh.as_bytes())?;
    file.sync_all()?;
    // A link is not made when there is a marker already, as renaming would be.
    let linked = fs::hard_link(&draft, &marker);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    File::open(root)?.sync_all()?;
    Ok(fs::read_to_string(&marker)?.trim().to_owned())
}
