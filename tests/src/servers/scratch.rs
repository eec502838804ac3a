//! Directories that go away, also when the test process is killed.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory of this process. The janitor is a shell that waits for the end of its standard
/// input, which the kernel closes when this process ends in any way, and then unmounts and removes everything.
struct Root {
    path: PathBuf,
    _janitor: Option<Child>,
}

const JANITOR: &str = r#"trap '' INT TERM HUP
cat >/dev/null
mounts() { awk -v root="$1/" 'index($2, root) == 1 { print $2 }' /proc/mounts 2>/dev/null | sort -r; }
for pause in 0.1 1 3; do
    sleep $pause
    mounts "$1" | while read -r place; do umount -l "$place"; done
    rm -rf -- "$1" && break
done"#;

static ROOT: LazyLock<Root> = LazyLock::new(|| {
    let path = tempfile::Builder::new()
        .prefix("understudy-tests-")
        .tempdir()
        .expect("the temporary directory is writable")
        .keep();
    open_to_others(&path);
    let janitor = (!keeps_files()).then(|| {
        Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // a kill of the whole group of the tests leaves it alive
            .spawn()
            .expect("there is a shell")
    });
    Root { path, _janitor: janitor }
});

/// PostgreSQL runs as another user when the tests run as root: it must be able to walk through.
fn open_to_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711))
        .expect("the mode of an own directory can be changed");
}

fn keeps_files() -> bool {
    std::env::var_os("UNDERSTUDY_TESTS_KEEP").is_some()
}

/// An own directory below the one of the test process; removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory whose name starts with `label`.
    pub fn new(label: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = ROOT.path.join(format!("{label}-{number}"));
        std::fs::create_dir(&path).expect("the directory of the test process is writable");
        Self { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !keeps_files() {
            // What a dying server still writes at this moment is left to the janitor.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}
