//! The configuration as a whole, through the variables an operator sets.

mod scheduling;

use std::time::Duration;

use super::*;

const SECRET: &str = "kH3vQ0yqv1o2tqJm7sC9wTz5xR8uBnLa";

/// All that a cluster needs, as an operator would write it.
const CLUSTER: [(&str, &str); 5] = [
    ("UNDERSTUDY_CLUSTER_ENABLED", "true"),
    ("UNDERSTUDY_REDIS_URL", "redis://:canary-redis@r:6379"),
    ("UNDERSTUDY_DATABASE_URL", "postgres://app:canary-pg@p/app"),
    ("UNDERSTUDY_SESSION_SECRET", SECRET),
    ("UNDERSTUDY_HTTP_EXTERNAL_URL", "https://shop.example"),
];

fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn good(vars: &[(&str, &str)]) -> Config {
    read(vars).unwrap_or_else(|errors| panic!("{vars:?}: {errors}"))
}

/// The variables that are complained about, each once, in order of the alphabet.
fn wrong(vars: &[(&str, &str)]) -> Vec<String> {
    let errors = read(vars).expect_err(&format!("{vars:?}"));
    let mut names: Vec<String> = errors.iter().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn cluster_with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let others = CLUSTER.into_iter().filter(|(known, _)| *known != name);
    others.chain([(name, value)]).collect()
}

#[test]
fn s6_sessions_per_user_are_limited_only_when_somebody_says_so() {
    let users = good(&[]).session.users;
    assert_eq!((users.max_sessions, users.max_policy), (None, MaxPolicy::Oldest));
    assert_eq!((users.lockout_attempts, users.lockout.as_secs()), (Some(5), 900));
    let users = good(&[
        ("UNDERSTUDY_SESSION_MAX_PER_USER", "10"),
        ("UNDERSTUDY_SESSION_MAX_POLICY", "reject"),
        ("UNDERSTUDY_SESSION_LOCKOUT_ATTEMPTS", "0"),
    ])
    .session
    .users;
    assert_eq!((users.max_sessions, users.max_policy), (Some(10), MaxPolicy::Reject));
    assert_eq!(users.lockout_attempts, None);
    let name = "UNDERSTUDY_SESSION_MAX_POLICY";
    assert_eq!(good(&[(name, "notify")]).session.users.max_policy, MaxPolicy::Notify);
    assert_eq!(wrong(&[(name, "newest")]), [name]);
}

#[test]
fn c3_how_often_a_session_moves_is_the_time_between_two_moves() {
    const MOVES: &str = "UNDERSTUDY_SESSION_MOVES_PER_MINUTE";
    const COOKIE: &str = "UNDERSTUDY_SESSION_AFFINITY_COOKIE";
    let usual = good(&[]).session.placement;
    assert_eq!((usual.move_every, usual.affinity_cookie), (Some(Duration::from_secs(30)), None));
    let every = |moves: &str| good(&[(MOVES, moves)]).session.placement.move_every;
    assert_eq!((every("0"), every("600")), (None, Some(Duration::from_millis(100))));
    assert_eq!(wrong(&[(MOVES, "601")]), [MOVES]);
    let cookie = |name: &str| good(&[(COOKIE, name)]).session.placement.affinity_cookie;
    assert_eq!(cookie("usnode").as_deref(), Some("usnode"));
    for bad in ["us node", "us=node", "usid", "__Host-usnode"] {
        assert_eq!(wrong(&[(COOKIE, bad)]), [COOKIE], "{bad}");
    }
}

#[test]
fn s16_one_file_of_a_session_is_not_larger_than_all_may_be() {
    const ONE: &str = "UNDERSTUDY_SESSION_MAX_FILE_BYTES";
    const ALL: &str = "UNDERSTUDY_SESSION_MAX_FILES_BYTES";
    let files = good(&[(ONE, "5"), (ALL, "5")]).session.files;
    assert_eq!((files.file_bytes, files.session_bytes), (5, 5));
    assert_eq!(wrong(&[(ONE, "6"), (ALL, "5")]), [ONE]);
    assert_eq!(wrong(&[(ONE, "-1")]), [ONE]);
}

#[test]
fn f1_a_store_of_files_is_told_what_it_needs() {
    const STORE: &str = "UNDERSTUDY_FILES_STORE";
    const DIR: &str = "UNDERSTUDY_FILES_DIR";
    const BUCKET: &str = "UNDERSTUDY_FILES_S3_BUCKET";
    const ACCESS: &str = "UNDERSTUDY_FILES_S3_ACCESS_KEY";
    const SECRET_KEY: &str = "UNDERSTUDY_FILES_S3_SECRET_KEY";
    assert_eq!(good(&[]).files.store, FileStoreKind::Database);
    assert_eq!(wrong(&[(STORE, "folder")]), [DIR]);
    assert_eq!(wrong(&[(STORE, "folder"), (DIR, "shared")]), [DIR]);
    assert_eq!(wrong(&[(STORE, "s3")]), [BUCKET]);
    assert_eq!(wrong(&[(BUCKET, "b")]), [BUCKET]);
    let folder = good(&[(STORE, "folder"), (DIR, "/srv/files")]).files;
    assert_eq!(folder.dir.as_deref(), Some(std::path::Path::new("/srv/files")));
    const MARK: &str = "UNDERSTUDY_FILES_DIR_MARK";
    assert_eq!(folder.dir_mark, FolderMark::ByTheFirstNode);
    assert_eq!(good(&[(MARK, "false")]).files.dir_mark, FolderMark::ByHand);
    assert_eq!(wrong(&[(MARK, "no")]), [MARK]);
    let s3 = good(&[(STORE, "s3"), (BUCKET, "shop"), (ACCESS, "id"), (SECRET_KEY, "canary")]);
    let shown = format!("{:?} {:?}", s3.files, s3.redacted());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(s3.files.s3.is_some_and(|s3| s3.path_style && s3.keys.is_some()));
    assert_eq!(wrong(&[(BUCKET, "shop"), (ACCESS, "id")]), [SECRET_KEY]);
    assert_eq!(wrong(&[(BUCKET, "shop"), (SECRET_KEY, "canary")]), [ACCESS]);
    for bad in ["s3.example.com", "http://", "http://user:word@host", "https://host/path"] {
        assert_eq!(
            wrong(&[("UNDERSTUDY_FILES_S3_ENDPOINT", bad)]),
            ["UNDERSTUDY_FILES_S3_ENDPOINT"]
        );
    }
    const ENCRYPTION: &str = "UNDERSTUDY_FILES_S3_ENCRYPTION";
    let encryption = |text: &str| {
        let read = good(&[(BUCKET, "shop"), (ENCRYPTION, text)]);
        read.files.s3.and_then(|s3| s3.encryption)
    };
    assert_eq!(encryption(""), None);
    assert_eq!(encryption("aes256"), Some(S3Encryption::Aes256));
    assert_eq!(encryption("kms:alias/files"), Some(S3Encryption::Kms("alias/files".to_owned())));
    for bad in ["AES", "kms:", "kms:a b"] {
        assert_eq!(wrong(&[(ENCRYPTION, bad)]), [ENCRYPTION]);
    }
    assert_eq!(good(&[]).files.near, None);
    let (near, bytes) = ("UNDERSTUDY_FILES_CACHE_DIR", "UNDERSTUDY_FILES_CACHE_MAX_BYTES");
    let kept = good(&[(near, "/var/cache/files"), (bytes, "67108864")]).files.near.unwrap();
    assert_eq!((kept.dir.to_str(), kept.bytes), (Some("/var/cache/files"), 64 << 20));
    assert_eq!(wrong(&[(near, "cache"), (bytes, "67108863")]), [near, bytes]);
    let memory = "UNDERSTUDY_FILES_UPLOAD_MEMORY_BYTES";
    assert_eq!(good(&[(memory, "16777216")]).files.upload_memory_bytes, 16 << 20);
    assert_eq!(wrong(&[(memory, "16777215")]), [memory]);
    let one = "UNDERSTUDY_FILES_MAX_FILE_BYTES";
    assert_eq!(wrong(&[(one, "6"), ("UNDERSTUDY_FILES_MAX_SPACE_BYTES", "5")]), [one]);
    // A bucket takes 10,000 parts of an object.
    let large = [(one, "52428800001"), ("UNDERSTUDY_FILES_MAX_SPACE_BYTES", "52428800001")];
    assert_eq!(good(&large).files.file_bytes, 52_428_800_001);
    assert_eq!(wrong(&[large[0], large[1], (STORE, "s3"), (BUCKET, "shop")]), [one]);
}

#[test]
fn x6_keys_of_links_are_read_as_secrets_of_sessions_are_and_users_have_no_files_by_default() {
    const KEYS: &str = "UNDERSTUDY_FILES_SIGNING_KEYS";
    const API: &str = "UNDERSTUDY_FILES_API";
    const MOST: &str = "UNDERSTUDY_FILES_API_MAX_USER_BYTES";
    let usual = good(&[]).files;
    assert_eq!((usual.signing_keys.len(), usual.api_user_bytes), (0, None));
    let two = format!("{SECRET}, {}", SECRET.to_lowercase());
    let given = good(&[(KEYS, &two), (API, "true"), (MOST, "5")]);
    assert_eq!((given.files.signing_keys.len(), given.files.api_user_bytes), (2, Some(5)));
    let shown = format!("{:?} {:?}", given.files, given.redacted());
    assert!(!shown.contains(SECRET), "{shown}");
    assert_eq!(wrong(&[(KEYS, "short")]), [KEYS]);
    assert_eq!(wrong(&[(KEYS, ",")]), [KEYS]);
    assert_eq!(wrong(&[(API, "yes")]), [API]);
    assert_eq!(wrong(&[(MOST, "-1")]), [MOST]);
}

#[test]
fn x6_keys_for_sessions_have_names_and_the_first_seals() {
    const NAME: &str = "UNDERSTUDY_SESSION_ENCRYPTION_KEYS";
    // The bytes from 0 to 31, and from 255 down, in base64 of both alphabets.
    const UP: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const DOWN: &str = "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA";
    let given = |text: &str| good(&[(NAME, text)]).session.encryption;
    assert!(good(&[]).session.encryption.keys.is_empty());
    assert_eq!(good(&[]).session.encryption.writes, EncryptionWrites::Plain);
    let two = given(&format!("2026-11:{UP}, old:{DOWN}"));
    assert_eq!(two.writes, EncryptionWrites::Sealed);
    let ids: Vec<&str> = two.keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, ["2026-11", "old"]);
    assert_eq!(two.keys[0].key.expose()[..3], [0, 1, 2]);
    assert_eq!(two.keys[1].key.expose()[..3], [255, 254, 253]);
    let off = given(&format!("plain\nold:{DOWN}\n"));
    assert_eq!((off.writes, off.keys.len()), (EncryptionWrites::Plain, 1));
    let zeros = "A".repeat(43);
    for bad in [
        UP.to_owned(),
        format!(":{UP}"),
        format!("a b:{UP}"),
        format!("k:{}", &UP[..40]),
        format!("k:{UP}A"),
        format!("k:{UP},plain"),
        format!("k:{UP},k:{DOWN}"),
        format!("k:{zeros}"),
        ",".to_owned(),
    ] {
        let errors = read(&[(NAME, &bad)]).expect_err(&bad).to_string();
        assert!(errors.starts_with(NAME), "{errors}");
        assert!(!errors.contains(&UP[..8]) && !errors.contains(&DOWN[..8]), "{errors}");
    }
    assert!(!format!("{two:?}").contains("[0, 1"), "{two:?}");
}

#[test]
fn f4_keys_for_files_are_read_as_those_for_sessions_are_and_are_not_these() {
    const NAME: &str = "UNDERSTUDY_FILES_ENCRYPTION_KEYS";
    const UP: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    assert!(good(&[]).files.encryption.keys.is_empty());
    let given = good(&[(NAME, &format!("a:{UP}"))]);
    assert_eq!(given.files.encryption.writes, EncryptionWrites::Sealed);
    assert_eq!(given.files.encryption.keys[0].id, "a");
    assert!(given.session.encryption.keys.is_empty());
    let off = good(&[(NAME, &format!("plain,a:{UP}"))]).files.encryption;
    assert_eq!((off.writes, off.keys.len()), (EncryptionWrites::Plain, 1));
    assert_eq!(wrong(&[(NAME, "a:short")]), [NAME]);
    let shown = format!("{:?} {:?}", given.files, given.redacted());
    assert!(!shown.contains(&UP[..8]) && !shown.contains("[0, 1"), "{shown}");
}

#[test]
fn s2_what_is_said_of_sessions_in_redis_is_refused_of_others() {
    let (store, persist, durability) =
        ("UNDERSTUDY_SESSION_STORE", "UNDERSTUDY_SESSION_PERSIST", "UNDERSTUDY_SESSION_DURABILITY");
    let usual = good(&CLUSTER).session.persist;
    assert_eq!((usual.mode, usual.durability), (PersistMode::Off, Durability::Stored));
    assert_eq!(usual.interval, Duration::from_secs(2));
    let through = good(&cluster_with(persist, "write_through")).session.persist;
    assert_eq!((through.mode, through.durability), (PersistMode::WriteThrough, Durability::Stored));
    assert_eq!(wrong(&cluster_with(persist, "later")), [persist]);
    assert_eq!(wrong(&cluster_with(durability, "database")), [durability]);
    let mut both = cluster_with(persist, "write_through");
    both.push((durability, "database"));
    assert_eq!(good(&both).session.persist.durability, Durability::Database);
    // Not in Redis.
    assert_eq!(wrong(&[(persist, "write_behind")]), [persist]);
    assert_eq!(wrong(&[(durability, "replicated")]), [durability]);
    assert_eq!(wrong(&[(store, "memory"), (durability, "database")]), [durability]);
    good(&[(persist, "off"), (durability, "database")]);
}

#[test]
fn a_node_needs_no_variable_at_all() {
    let config = good(&[]);
    assert_eq!(config.http.bind.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin.bind.unwrap().to_string(), "127.0.0.1:9090");
    assert!(config.node.id.as_str().ends_with("-8080"));
    assert!(config.redis.is_none() && !config.cluster.enabled);
    assert_eq!(config.session.store, StoreKind::Database);
    assert!(
        matches!(&config.database.url, DatabaseUrl::Sqlite(path) if path.ends_with("data/understudy.db"))
    );
    assert_eq!(config.session.idle, Duration::from_secs(1800));
    assert_eq!(config.session.touch, Duration::from_secs(300));
    assert_eq!(
        (config.session.cookie_name.as_str(), config.session.cookie_secure),
        ("usid", false)
    );
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn an_empty_value_counts_as_not_set() {
    let empty: Vec<(&str, &str)> = registry().iter().map(|variable| (variable.name, " ")).collect();
    assert_eq!(good(&empty).redacted(), good(&[]).redacted());
}

#[test]
fn every_registered_option_is_read_and_shown_and_no_other() {
    let shown: Vec<String> = good(&[]).redacted().into_keys().collect();
    let mut registered: Vec<&str> = registry().iter().map(|variable| variable.name).collect();
    registered.sort_unstable();
    assert_eq!(shown, registered);
}

#[test]
fn every_option_that_takes_no_free_text_refuses_nonsense() {
    // What any text is right for: a name, a path, a password.
    let free = [
        "DATA_DIR",
        "USERNAME",
        "PASSWORD",
        "SENTINEL_NAME",
        "TOKEN",
        "HTTP_HOSTS",
        "LOG_FILTER",
        "CLUSTER_NAME",
        "NODE_ID",
        "REDIS_URL",
        "COOKIE_NAME",
        "AFFINITY_COOKIE",
        "COOKIE_DOMAIN",
        "JOBS_ENABLED",
        "JOBS_TIMEZONE",
        "S3_BUCKET",
        "S3_REGION",
        "S3_PREFIX",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
    ];
    for variable in registry().iter().filter(|v| !free.iter().any(|part| v.name.contains(part))) {
        let value = ("canary-nonsense", variable.name);
        let errors = read(&[(value.1, value.0)]).expect_err(variable.name).to_string();
        assert!(errors.starts_with(&format!("{}: ", variable.name)), "{errors}");
        assert!(!errors.contains(value.0), "{errors}");
    }
}

#[test]
fn g3_all_mistakes_are_told_at_once_by_name_and_without_values() {
    let errors = read(&[
        ("UNDERSTUDY_HTTP_BIND", "canary-1"),
        ("UNDERSTUDY_SESSION_SECRET", "canary-2"),
        ("UNDERSTUDY_REDIS_OPTIONS", "{canary-3"),
    ])
    .unwrap_err()
    .to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    for name in ["HTTP_BIND", "SESSION_SECRET", "REDIS_OPTIONS"] {
        let start = format!("UNDERSTUDY_{name}: ");
        assert_eq!(lines.iter().filter(|line| line.starts_with(&start)).count(), 1, "{errors}");
    }
    assert!(!errors.contains("canary"), "{errors}");
}

#[test]
fn g3_booleans_and_numbers_have_one_spelling() {
    for (name, value) in [
        ("UNDERSTUDY_HTTP_CSRF", "TRUE"),
        ("UNDERSTUDY_HTTP_CSRF", "1"),
        ("UNDERSTUDY_HTTP_CSRF", "on"),
        ("UNDERSTUDY_SESSION_IDLE_S", "-1"),
        ("UNDERSTUDY_SESSION_IDLE_S", "+5"),
        ("UNDERSTUDY_SESSION_IDLE_S", "5s"),
        ("UNDERSTUDY_SESSION_IDLE_S", "0"),
        ("UNDERSTUDY_SESSION_IDLE_S", "99999999999999999999"),
        ("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "1"),
    ] {
        assert_eq!(wrong(&[(name, value)]), [name], "{value}");
    }
    assert_eq!(
        good(&[("UNDERSTUDY_SESSION_IDLE_S", " 60 ")]).session.idle,
        Duration::from_secs(60)
    );
}

#[test]
fn g3_an_unknown_name_is_refused_with_the_one_that_was_meant() {
    let errors = read(&[("UNDERSTUDY_REDSI_URL", "canary")]).unwrap_err().to_string();
    assert_eq!(errors, "UNDERSTUDY_REDSI_URL: is not known; did you mean UNDERSTUDY_REDIS_URL?");
    assert_eq!(wrong(&[("UNDERSTUDY_COLOUR_OF_THE_SKY", "blue")]).len(), 1);
    assert_eq!(wrong(&[("UNDERSTUDY_http_bind", "0.0.0.0:1")]).len(), 1);
    // Of other programs, and of Kubernetes for a Service that is called like us.
    good(&[("UNDERSTUD_X", "1"), ("HTTP_BIND", "nonsense"), ("PATH", "/bin")]);
    good(&[
        ("UNDERSTUDY_REDIS_PORT", "tcp://10.0.0.11:6379"),
        ("UNDERSTUDY_REDIS_SERVICE_HOST", "10.0.0.11"),
        ("UNDERSTUDY_REDIS_PORT_6379_TCP_ADDR", "10.0.0.11"),
    ]);
}

#[test]
fn l1_a_name_that_was_given_up_is_refused_with_its_replacement() {
    for (old, new) in [
        ("UNDERSTUDY_SESSION_TIMEOUT", "UNDERSTUDY_SESSION_IDLE_S"),
        ("UNDERSTUDY_SERVER_ID", "UNDERSTUDY_NODE_ID"),
        ("UNDERSTUDY_REDIS_HOST", "UNDERSTUDY_REDIS_URL"),
        ("UNDERSTUDY_PORT", "UNDERSTUDY_HTTP_BIND"),
        ("UNDERSTUDY_LEADER_TTL_MINUTES", "UNDERSTUDY_LEADER_TTL_MS"),
        ("UNDERSTUDY_LEADER_TIME_TO_LIVE_MINUTES", "UNDERSTUDY_LEADER_TTL_MS"),
        ("UNDERSTUDY_JOBS_HISTORY_DAYS", "UNDERSTUDY_JOBS_HISTORY_S"),
    ] {
        let errors = read(&[(old, "1")]).unwrap_err().to_string();
        assert_eq!(errors, format!("{old}: is not an option here; use {new}"));
    }
}

#[test]
fn names_from_elsewhere_are_understood_with_one_warning_each() {
    let config = good(&[
        ("CLUSTER_ENABLED", "true"),
        ("REDIS_URL", "redis://r"),
        ("REDIS_OPTIONS", r#"{"password":"pw"}"#),
        ("DATABASE_URL", "postgresql://u:p@p/d"),
        ("EXTERNAL_URL", "https://shop.example"),
        ("PORT", "3000"),
        ("UNDERSTUDY_SESSION_SECRET", SECRET),
    ]);
    assert!(config.cluster.enabled);
    assert_eq!(config.http.bind.to_string(), "0.0.0.0:3000");
    assert_eq!(config.redis.unwrap().targets.password.unwrap().expose(), "pw");
    assert_eq!(config.warnings.len(), 6, "{:?}", config.warnings);
    assert!(config.warnings.contains(
        &"REDIS_URL is taken for UNDERSTUDY_REDIS_URL; set UNDERSTUDY_REDIS_URL instead".to_owned()
    ));
    // Our own name wins, whatever the other says.
    let config = good(&[("PORT", "nonsense"), ("UNDERSTUDY_HTTP_BIND", "127.0.0.1:1")]);
    assert_eq!(config.http.bind.to_string(), "127.0.0.1:1");
    assert!(config.warnings.is_empty());
    // A mistake is reported by the name that was used.
    assert_eq!(wrong(&[("PORT", "nonsense")]), ["PORT"]);
    assert_eq!(wrong(&[("REDIS_OPTIONS", "{bad"), ("REDIS_URL", "h")]), ["REDIS_OPTIONS"]);
    assert_eq!(wrong(&[("DATABASE_URL", "mysql://h")]), ["DATABASE_URL"]);
}

#[test]
fn g2_a_secret_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let path = path.to_str().unwrap();
    let config = good(&[("UNDERSTUDY_SESSION_SECRET_FILE", path)]);
    assert_eq!(config.session.secret[0].expose(), SECRET);

    let name = "UNDERSTUDY_SESSION_SECRET_FILE";
    let errors = read(&[(name, "/nowhere/canary")]).unwrap_err().to_string();
    assert!(errors.starts_with("UNDERSTUDY_SESSION_SECRET_FILE: cannot be read"), "{errors}");
    assert!(!errors.contains("canary"), "{errors}");
    assert_eq!(wrong(&[(name, path), ("UNDERSTUDY_SESSION_SECRET", SECRET)]).len(), 1);
    // A mistake inside is reported by the name of the file.
    std::fs::write(path, "canary-too-short").unwrap();
    let errors = read(&[(name, path)]).unwrap_err().to_string();
    assert!(errors.starts_with(name) && !errors.contains("canary"), "{errors}");
    std::fs::write(path, "\n").unwrap();
    assert_eq!(wrong(&[(name, path)]), [name]);
    // What is no secret has no file.
    assert_eq!(wrong(&[("UNDERSTUDY_HTTP_BIND_FILE", path)]), ["UNDERSTUDY_HTTP_BIND_FILE"]);
}

#[test]
fn g2_every_secret_has_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0").unwrap();
    for variable in registry().iter().filter(|variable| variable.secret) {
        let name = format!("{}_FILE", variable.name);
        if let Err(errors) = read(&[(&name, file.path().to_str().unwrap())]) {
            assert!(!errors.to_string().contains("not known"), "{name}: {errors}");
        }
    }
}

#[test]
fn g2_the_real_environment_wins_over_the_file_of_variables() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "# a comment\n\n  export UNDERSTUDY_HTTP_BIND = 127.0.0.1:1 # why\n\
         UNDERSTUDY_CLUSTER_NAME='from-file'\nUNDERSTUDY_SESSION_SECRET=\"{SECRET}\"\n\
         UNDERSTUDY_ADMIN_TOKEN=a#b#c#d#e#f#g#h#i\nUNDERSTUDY_LOG_FILTER=\nOTHER=1\nPORT=5\n"
    );
    std::fs::write(file.path(), text).unwrap();
    let env_file = ("UNDERSTUDY_ENV_FILE", file.path().to_str().unwrap());
    let config = good(&[env_file, ("UNDERSTUDY_CLUSTER_NAME", "real")]);
    assert_eq!(config.http.bind.to_string(), "127.0.0.1:1");
    assert_eq!(config.cluster.name.as_str(), "real");
    assert_eq!(config.session.secret[0].expose(), SECRET);
    assert_eq!(config.admin.token.unwrap().expose(), "a#b#c#d#e#f#g#h#i");
    // A file named in the real environment wins over a value in the file of variables.
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), SECRET.to_lowercase()).unwrap();
    let real = ("UNDERSTUDY_SESSION_SECRET_FILE", secret.path().to_str().unwrap());
    assert_eq!(good(&[env_file, real]).session.secret[0].expose(), &SECRET.to_lowercase());
}

#[test]
fn g10_each_option_tells_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let variables = write("env", "UNDERSTUDY_SESSION_IDLE_S=60\nUNDERSTUDY_CLUSTER_NAME=other\n");
    let secret = write("secret", SECRET);
    let config = good(&[
        ("UNDERSTUDY_ENV_FILE", &variables),
        ("UNDERSTUDY_SESSION_SECRET_FILE", &secret),
        ("UNDERSTUDY_CLUSTER_NAME", "mine"),
        ("UNDERSTUDY_HTTP_CSRF", "true"),
        ("UNDERSTUDY_REDIS_OPTIONS", r#"{"password":"pw"}"#),
        ("PORT", "3000"),
    ]);
    let sources = config.sources();
    assert_eq!(sources.len(), registry().len());
    for (name, expected) in [
        ("SESSION_IDLE_S", Source::File),
        ("SESSION_SECRET", Source::File),
        ("CLUSTER_NAME", Source::Environment),
        ("HTTP_CSRF", Source::Environment),
        ("HTTP_BIND", Source::Environment),
        ("SESSION_TOUCH_S", Source::Derived),
        ("REDIS_PASSWORD", Source::Derived),
        ("HTTP_WORKERS", Source::Derived),
        ("NODE_ID", Source::Derived),
        ("HTTP_KEEP_ALIVE_S", Source::Default),
        ("ADMIN_TOKEN", Source::Default),
        ("REDIS_URL", Source::Default),
    ] {
        assert_eq!(sources[&format!("UNDERSTUDY_{name}")], expected, "{name}");
    }
}

#[test]
fn g2_a_file_of_variables_with_mistakes_is_refused_by_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let env_file = ("UNDERSTUDY_ENV_FILE", file.path().to_str().unwrap());
    for bad in ["canary", "=canary", "A B=canary", "A='canary"] {
        std::fs::write(file.path(), format!("# first\n{bad}\n")).unwrap();
        let errors = read(&[env_file]).unwrap_err().to_string();
        assert_eq!(errors, "UNDERSTUDY_ENV_FILE: line 2 of the file is not KEY=VALUE");
    }
    std::fs::write(file.path(), "UNDERSTUDY_HTTP_BINDD=1").unwrap();
    assert_eq!(wrong(&[env_file]), ["UNDERSTUDY_HTTP_BINDD"]);
    assert_eq!(wrong(&[("UNDERSTUDY_ENV_FILE", "/nowhere")]), ["UNDERSTUDY_ENV_FILE"]);
}

#[test]
fn g6_a_cluster_without_what_it_needs_is_refused() {
    good(&CLUSTER);
    assert_eq!(
        wrong(&[("CLUSTER_ENABLED", "true")]),
        [
            "UNDERSTUDY_DATABASE_URL",
            "UNDERSTUDY_HTTP_EXTERNAL_URL",
            "UNDERSTUDY_REDIS_URL",
            "UNDERSTUDY_SESSION_SECRET",
        ]
    );
    for (name, bad) in [
        ("UNDERSTUDY_REDIS_URL", "redis://h:99999"),
        ("UNDERSTUDY_DATABASE_URL", "mysql://h/d"),
        ("UNDERSTUDY_SESSION_SECRET", "short"),
        ("UNDERSTUDY_HTTP_EXTERNAL_URL", "ftp://h"),
    ] {
        assert_eq!(wrong(&cluster_with(name, bad)), [name], "told once, and not as missing");
    }
    let sqlite = cluster_with("UNDERSTUDY_DATABASE_URL", "sqlite://a.db");
    assert_eq!(wrong(&sqlite), ["UNDERSTUDY_DATABASE_URL"]);
    let memory = cluster_with("UNDERSTUDY_SESSION_STORE", "memory");
    assert_eq!(wrong(&memory), ["UNDERSTUDY_SESSION_STORE"]);
    let alone = [("UNDERSTUDY_SESSION_STORE", "redis"), ("UNDERSTUDY_REDIS_URL", "redis://h")];
    assert_eq!(wrong(&alone), ["UNDERSTUDY_SESSION_STORE"]);
}

#[test]
fn g5_secrets_are_a_list_of_which_the_first_signs() {
    let both = format!("{SECRET}, {}", SECRET.to_lowercase());
    let config = good(&[("UNDERSTUDY_SESSION_SECRET", &both)]);
    let secrets: Vec<&String> =
        config.session.secret.iter().map(|secret| secret.expose()).collect();
    assert_eq!(secrets, [SECRET, &SECRET.to_lowercase()]);
    for bad in [
        "short",
        &format!("{SECRET},short"),
        "changeme-changeme-changeme-changeme",
        "my-CHANGEME-secret-that-is-long-enough",
        "at-least-32-random-characters-of-yours", // stood in the README
        ",",
    ] {
        assert_eq!(
            wrong(&[("UNDERSTUDY_SESSION_SECRET", bad)]),
            ["UNDERSTUDY_SESSION_SECRET"],
            "{bad}"
        );
    }
}

#[test]
fn s3_times_that_contradict_each_other_are_refused() {
    let (idle, absolute, touch) = (
        "UNDERSTUDY_SESSION_IDLE_S",
        "UNDERSTUDY_SESSION_ABSOLUTE_S",
        "UNDERSTUDY_SESSION_TOUCH_S",
    );
    assert_eq!(wrong(&[(idle, "60"), (touch, "61")]), [touch]);
    assert_eq!(wrong(&[(idle, "60"), (absolute, "59")]), [idle]);
    let config = good(&[(idle, "3"), (absolute, "3")]);
    assert_eq!(config.session.touch, Duration::from_millis(500));
    good(&[(idle, "60"), (touch, "60")]);
}

#[test]
fn leases_are_long_enough_for_heartbeats_and_commands() {
    let (ttl, beat) = ("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "UNDERSTUDY_CLUSTER_HEARTBEAT_MS");
    assert_eq!(wrong(&[(ttl, "2999")]), [ttl]);
    good(&[(ttl, "2999"), (beat, "999")]);
    let redis = ("UNDERSTUDY_REDIS_URL", "redis://h");
    let command = "UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS";
    assert_eq!(wrong(&[redis, (command, "1801")]), [command]);
    good(&[redis, (command, "1800")]);
}

#[test]
fn o2_a_node_that_drains_gives_requests_no_less_time_than_balancers() {
    let (delay, timeout) = ("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "UNDERSTUDY_OPS_DRAIN_TIMEOUT_MS");
    assert_eq!(wrong(&[(delay, "30001")]), [delay]);
    let both = [(delay, "1"), (timeout, "0")];
    assert!(read(&both).unwrap_err().to_string().contains(timeout), "names both");
    let shorter = good(&[(timeout, "3000")]).ops;
    assert_eq!(shorter.drain_delay, shorter.drain_timeout, "a default is no wish");
    good(&[(delay, "30000")]);
    good(&[(delay, "0"), (timeout, "0")]);
}

/// The README writes the secret into the file with a line for a shell: the file itself is not one.
#[test]
fn g2_the_secret_of_the_readme_is_taken_from_a_file_of_variables() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let env_file = ("UNDERSTUDY_ENV_FILE", file.path().to_str().unwrap());
    let base64 = "q83vEjRWeJq83v7cuph2VDIQ/+7dzLuqmYh3ZlVEMyIRAP/u3cy7qpmId2ZVRDMi";
    std::fs::write(file.path(), format!("UNDERSTUDY_SESSION_SECRET={base64}\n")).unwrap();
    assert_eq!(good(&[env_file]).session.secret[0].expose(), base64);
    std::fs::write(file.path(), "UNDERSTUDY_SESSION_SECRET=$(openssl rand -base64 48)\n").unwrap();
    assert_eq!(wrong(&[env_file]), ["UNDERSTUDY_SESSION_SECRET"], "no shell reads it");
}

#[test]
fn x1_an_administration_port_for_others_needs_a_token() {
    let open = ("UNDERSTUDY_ADMIN_BIND", "0.0.0.0:9090");
    assert_eq!(wrong(&[open]), ["UNDERSTUDY_ADMIN_TOKEN"]);
    good(&[open, ("UNDERSTUDY_ADMIN_VIEWER_TOKEN", "0123456789abcdef")]);
    good(&[("UNDERSTUDY_ADMIN_BIND", "[::1]:9090")]);
    assert!(good(&[("UNDERSTUDY_ADMIN_BIND", "off")]).admin.bind.is_none());
    let (token, viewer) = ("UNDERSTUDY_ADMIN_TOKEN", "UNDERSTUDY_ADMIN_VIEWER_TOKEN");
    assert_eq!(wrong(&[(token, "same"), (viewer, "same")]), [viewer]);
    assert_eq!(wrong(&[(token, "two words")]), [token]);
    assert_eq!(good(&[(token, "short")]).warnings.len(), 1);
    assert_eq!(wrong(&[("UNDERSTUDY_HTTP_BIND", "127.0.0.1:9090")]), ["UNDERSTUDY_ADMIN_BIND"]);
}

#[test]
fn s4_the_cookie_obeys_what_browsers_demand() {
    let (name, secure, samesite) = (
        "UNDERSTUDY_SESSION_COOKIE_NAME",
        "UNDERSTUDY_SESSION_COOKIE_SECURE",
        "UNDERSTUDY_SESSION_COOKIE_SAMESITE",
    );
    let (domain, path) = ("UNDERSTUDY_SESSION_COOKIE_DOMAIN", "UNDERSTUDY_SESSION_COOKIE_PATH");
    let https = ("UNDERSTUDY_HTTP_EXTERNAL_URL", "https://shop.example");
    let cookie = |vars: &[(&str, &str)]| {
        let session = good(vars).session;
        (session.cookie_name, session.cookie_secure)
    };
    assert_eq!(cookie(&[https]), ("__Host-usid".to_owned(), true));
    assert_eq!(cookie(&[https, (domain, "shop.example")]), ("usid".to_owned(), true));
    assert_eq!(cookie(&[https, (path, "/app")]), ("usid".to_owned(), true));
    assert_eq!(cookie(&[https, (secure, "false")]), ("usid".to_owned(), false));
    assert_eq!(cookie(&[https, (name, "mine")]), ("mine".to_owned(), true));
    let plain = ("UNDERSTUDY_HTTP_EXTERNAL_URL", "http://shop.example");
    assert_eq!(cookie(&[plain]), ("usid".to_owned(), false));
    assert_eq!(good(&[plain, (secure, "true")]).warnings.len(), 1);

    assert_eq!(wrong(&[(samesite, "none")]), [samesite]);
    assert_eq!(good(&[https, (samesite, "None")]).session.cookie_samesite, SameSite::None);
    assert_eq!(wrong(&[(name, "__Host-a")]), [name]);
    assert_eq!(wrong(&[(name, "__Secure-a")]), [name]);
    assert_eq!(wrong(&[https, (name, "__Host-a"), (path, "/app")]), [name]);
    assert_eq!(wrong(&[https, (name, "__Host-a"), (domain, "a.example")]), [name]);
    assert_eq!(wrong(&[(name, "a;b")]), [name]);
    assert_eq!(wrong(&[(path, "app")]), [path]);
    assert_eq!(wrong(&[(path, "/;x")]), [path]);
    assert_eq!(wrong(&[(domain, "a b")]), [domain]);
}

#[test]
fn a_database_is_postgresql_or_an_sqlite_file() {
    let url = |text| read(&[("UNDERSTUDY_DATABASE_URL", text)]).map(|config| config.database.url);
    for text in ["postgres://u:p%40@h:5432/d?sslmode=verify-full", "postgresql://h/d"] {
        assert!(
            matches!(url(text), Ok(DatabaseUrl::Postgres(url)) if url.expose() == text),
            "{text}"
        );
    }
    for (text, path) in [
        ("sqlite://a/b.db", "a/b.db"),
        ("sqlite:///srv/a.db", "/srv/a.db"),
        ("sqlite://a.db?mode=rwc", "a.db"),
    ] {
        assert!(
            matches!(url(text), Ok(DatabaseUrl::Sqlite(found)) if found.to_str() == Some(path)),
            "{text}"
        );
    }
    for text in ["mysql://h/d", "h/d", "postgres://h:port/d", "sqlite://", "sqlite://a.db?mode=ro"]
    {
        assert!(url(text).is_err(), "{text}");
    }
}

#[test]
fn t9_two_nodes_of_one_host_are_named_apart() {
    let name = |bind| good(&[("UNDERSTUDY_HTTP_BIND", bind)]).node.id;
    assert_ne!(name("0.0.0.0:1"), name("0.0.0.0:2"));
    assert!(name("0.0.0.0:0").as_str().ends_with(&format!("-{}", std::process::id())));
    assert_eq!(good(&[("UNDERSTUDY_NODE_ID", "web-1")]).node.id.as_str(), "web-1");
    assert_eq!(wrong(&[("UNDERSTUDY_NODE_ID", "web 1")]), ["UNDERSTUDY_NODE_ID"]);
}

#[test]
fn x4_what_is_shown_holds_no_secret() {
    let mut vars = CLUSTER.to_vec();
    vars.extend([
        ("UNDERSTUDY_ADMIN_TOKEN", "canary-admin-token"),
        ("UNDERSTUDY_SESSION_REDIS_URL", "redis://u:canary-a@a,u:canary-a@b"),
        ("UNDERSTUDY_LEADER_REDIS_URL", "redis://:canary-leader@l"),
        ("UNDERSTUDY_REDIS_OPTIONS", r#"{"sentinelPassword":"canary-sentinel"}"#),
    ]);
    let config = good(&vars);
    let shown = format!("{:?} {config:?}", config.redacted());
    assert!(!shown.contains("canary") && !shown.contains(SECRET), "{shown}");
    let redacted = config.redacted();
    assert_eq!(redacted["UNDERSTUDY_SESSION_SECRET"], "******");
    assert_eq!(redacted["UNDERSTUDY_DATABASE_URL"], "postgres://******@p/app");
    assert_eq!(redacted["UNDERSTUDY_REDIS_URL"], "redis://******@r:6379");
    assert_eq!(redacted["UNDERSTUDY_LEADER_REDIS_URL"], "redis://******@l");
    assert_eq!(redacted["UNDERSTUDY_ADMIN_VIEWER_TOKEN"], "");
    assert_eq!(redacted["UNDERSTUDY_SESSION_IDLE_S"], "1800");
}

#[test]
fn g9_the_fingerprint_leaves_out_what_belongs_to_the_node() {
    let print = |name, value| good(&cluster_with(name, value)).fingerprint();
    let usual = good(&CLUSTER).fingerprint();
    assert_eq!(usual.len(), 16);
    for (name, value) in [
        ("UNDERSTUDY_NODE_ID", "other"),
        ("UNDERSTUDY_HTTP_BIND", "0.0.0.0:1"),
        ("UNDERSTUDY_DATA_DIR", "/srv/other"),
        ("UNDERSTUDY_LOG_FORMAT", "text"),
        ("UNDERSTUDY_LEADER_ELIGIBLE", "false"),
        ("UNDERSTUDY_LEADER_PRIORITY", "7"),
        ("UNDERSTUDY_JOBS_CONCURRENCY", "3"),
        ("UNDERSTUDY_JOBS_THREADS", "3"),
        ("UNDERSTUDY_SESSION_IDLE_S", "1800"), // the default, in words
        ("UNDERSTUDY_LEADER_RENEW_MS", "1666"),
    ] {
        assert_eq!(print(name, value), usual, "{name}");
    }
    for (name, value) in [
        ("UNDERSTUDY_SESSION_IDLE_S", "1801"),
        ("UNDERSTUDY_LEADER_TTL_MS", "5001"),
        ("UNDERSTUDY_JOBS_TICK_MS", "1001"),
        ("UNDERSTUDY_SESSION_SECRET", "another-secret-of-32-bytes-or-more"),
        ("UNDERSTUDY_REDIS_URL", "redis://:another-password@r:6379"),
    ] {
        assert_ne!(print(name, value), usual, "{name}");
    }
}

#[test]
fn the_environment_of_this_process_is_read_without_panic() {
    assert!(environment::of_process().iter().any(|(name, _)| name == "PATH"));
}

#[test]
fn a_configuration_for_tests_takes_free_ports_and_its_own_folder() {
    let (one, other) = (Config::for_test(), Config::for_test());
    assert_ne!(one.node.data_dir, other.node.data_dir);
    assert_eq!(one.http.bind.port(), 0);
}
