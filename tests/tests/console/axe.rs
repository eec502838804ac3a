//! axe-core, which finds what people who do not see the page, or do not use a mouse, stumble over. It comes from npm when
//! the tests run, and is kept in `target/tmp`. Nothing installs npm (`.ci/packages.sh` does not), so where it or the network
//! is not there, the checks of [`looks`](super::looks) are all there is, and standard error says so; where `CI` is set, the
//! tests fail.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use understudy_tests::oracle;
use understudy_tests::servers::run;

/// Which version: another may find other things.
const VERSION: &str = "4.14.1";

static SOURCE: LazyLock<Result<String, String>> = LazyLock::new(|| {
    fetched().inspect_err(|why| {
        oracle::note(&format!("NOT LOOKED AT BY AXE, only by the built-in checks: {why}"));
    })
});

/// The script; `None` where it cannot be had and need not be.
pub(super) fn source() -> Option<&'static str> {
    if let Err(why) = &*SOURCE {
        assert!(!is_ci(), "axe-core {VERSION} is not there, and CI is set: {why}");
    }
    SOURCE.as_deref().ok()
}

/// Whether nobody reads what the tests say as long as they pass.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

fn fetched() -> Result<String, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("axe-core-{VERSION}"));
    let file = folder.join("package/axe.min.js");
    let wrong = |error: std::io::Error| format!("{}: {error}", file.display());
    if !file.is_file() {
        std::fs::create_dir_all(&folder).map_err(wrong)?;
        let limit = Duration::from_secs(120);
        let mut pack = Command::new("npm");
        pack.args(["pack", "--silent", &format!("axe-core@{VERSION}")]).current_dir(&folder);
        run(&mut pack, limit)?;
        let mut unpack = Command::new("tar");
        unpack.arg("xzf").arg(format!("axe-core-{VERSION}.tgz")).current_dir(&folder);
        run(&mut unpack, limit)?;
    }
    std::fs::read_to_string(&file).map_err(wrong)
}
