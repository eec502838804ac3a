//! axe-core, which finds what people who do not see the page, or do not use a mouse, stumble over. It comes from npm when
//! the tests run, and is kept in `target/tmp`; where npm or the network is not there, the checks of
//! [`looks`](super::looks) are all there is, and the report says so.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use understudy_tests::oracle;
use understudy_tests::servers::run;

/// Which version: another may find other things.
const VERSION: &str = "4.14.1";

static SOURCE: LazyLock<Option<String>> = LazyLock::new(|| {
    let source = fetched();
    if source.is_none() {
        oracle::note("axe-core is not there and npm cannot bring it: the built-in checks only");
    }
    source
});

/// The script, if it can be had.
pub(super) fn source() -> Option<&'static str> {
    SOURCE.as_deref()
}

fn fetched() -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("axe-core-{VERSION}"));
    let file = folder.join("package/axe.min.js");
    if !file.is_file() {
        std::fs::create_dir_all(&folder).ok()?;
        let limit = Duration::from_secs(120);
        let mut pack = Command::new("npm");
        pack.args(["pack", "--silent", &format!("axe-core@{VERSION}")]).current_dir(&folder);
        run(&mut pack, limit).ok()?;
        let mut unpack = Command::new("tar");
        unpack.arg("xzf").arg(format!("axe-core-{VERSION}.tgz")).current_dir(&folder);
        run(&mut unpack, limit).ok()?;
    }
    std::fs::read_to_string(file).ok()
}
