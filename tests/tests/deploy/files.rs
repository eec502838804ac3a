//! The files of deploy/, and what their variables must be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use understudy::runtime::config::{Config, Variable, registry};

/// The folder of the project.
pub(super) fn project() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of the project.
pub(super) fn read(path: &str) -> String {
    let path = project().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether there is such an option; a name that ends in `_FILE` stands for the secret before it.
pub(super) fn is_option(name: &str) -> bool {
    let known = |name: &str| registry().iter().find(|variable| variable.name == name);
    let of_secret =
        |name: &str| known(name.strip_suffix("_FILE")?).filter(|variable| variable.secret);
    known(name).or_else(|| of_secret(name)).is_some()
}

/// The default of an option.
pub(super) fn default_of(name: &str) -> &'static str {
    let variable: Option<&Variable> = registry().iter().find(|variable| variable.name == name);
    variable.unwrap_or_else(|| panic!("{name} is no option")).default
}

/// What an operator fills in, in the form in which it is right.
pub(super) fn secrets() -> BTreeMap<String, String> {
    let all = [
        ("UNDERSTUDY_SESSION_SECRET", "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA=="),
        ("UNDERSTUDY_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef"),
        ("UNDERSTUDY_ADMIN_VIEWER_TOKEN", "fedcba9876543210fedcba9876543210"),
        ("UNDERSTUDY_REDIS_URL", "redis://redis:6379"),
        ("UNDERSTUDY_DATABASE_URL", "postgres://understudy:password@postgres:5432/understudy"),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Has the program read these variables; whatever it complains about fails the test.
pub(super) fn accepted(variables: &BTreeMap<String, String>) -> Config {
    Config::from_vars(variables.clone()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The assignments of a file of variables, and those that are commented out.
pub(super) fn assignments(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let is_name = !name.is_empty() && name.bytes().all(plain);
        is_name.then(|| (name.to_owned(), value.to_owned()))
    };
    let set = text.lines().filter_map(pair).collect();
    let offered = text.lines().filter_map(|line| pair(line.strip_prefix('#')?)).collect();
    (set, offered)
}

#[test]
fn o5_the_sample_of_variables_is_right_and_says_the_defaults() {
    let (mut set, offered) = assignments(&read("deploy/.env.example"));
    // For the image of PostgreSQL, not for a node.
    assert_eq!(set.remove("POSTGRES_PASSWORD").as_deref(), Some(""));
    let own = |name: &str| name.ends_with("_URL") || default_of(name).starts_with('<');
    for name in set.keys().chain(offered.keys()) {
        assert!(is_option(name), "{name} is no option");
    }
    for (name, value) in &offered {
        // Addresses and names are examples; everything else is what holds anyway.
        let example = own(name) || name == "UNDERSTUDY_DATA_DIR";
        assert!(example || value == default_of(name), "{name}={value} is not the default");
    }
    for (name, value) in &set {
        let secret = registry().iter().any(|variable| variable.name == name && variable.secret);
        assert_eq!(
            secret,
            value.is_empty(),
            "{name}: secrets have no default, all else has a value"
        );
    }
    // As it is, the program names all that is missing; filled in, it starts.
    let complaints = Config::from_vars(set.clone()).unwrap_err().to_string();
    for missing in ["UNDERSTUDY_SESSION_SECRET", "UNDERSTUDY_REDIS_URL", "UNDERSTUDY_DATABASE_URL"]
    {
        assert!(complaints.contains(missing), "{complaints}");
    }
    set.retain(|_, value| !value.is_empty());
    set.extend(secrets());
    accepted(&set);
}
