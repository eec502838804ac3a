//! The section as a whole, through the variables an operator sets.

use super::{RedisConfig, Topology};
use crate::config::{Config, ConfigErrors};

/// An embedded node may know a Redis, so the section can be tested without all that a cluster needs.
fn read(vars: &[(&str, &str)]) -> Result<RedisConfig, ConfigErrors> {
    let vars = vars.iter().map(|(name, value)| (format!("UNDERSTUDY_{name}"), (*value).to_owned()));
    Config::from_vars(vars).map(|config| config.redis.expect("REDIS_URL is set"))
}

fn sentinel(service: &str) -> Topology {
    Topology::Sentinel { service: service.to_owned() }
}

/// `user:password@host:port,host:port/db` and `tls` or `plain`.
fn summary(config: &RedisConfig) -> String {
    let target = &config.targets;
    let hosts: Vec<String> =
        target.hosts.iter().map(|(host, port)| format!("{host}|{port}")).collect();
    let user = target.username.as_deref().unwrap_or_default();
    let password = target.password.as_ref().map_or("", |password| password.expose());
    let tls = if target.tls { "tls" } else { "plain" };
    format!("{user}:{password}@{}/{} {tls}", hosts.join(","), target.db)
}

fn check(table: &[(&str, Topology, &str)]) {
    for (url, topology, expected) in table {
        let config = read(&[("REDIS_URL", url)]).unwrap_or_else(|errors| panic!("{url}: {errors}"));
        assert_eq!(summary(&config), *expected, "{url}");
        assert_eq!(config.targets.topology, *topology, "{url}");
    }
}

#[test]
fn k2_every_way_to_write_one_server_is_understood() {
    use Topology::Auto;
    check(&[
        // One server.
        ("redis://h", Auto, ":@h|6379/0 plain"),
        ("redis://h:7000", Auto, ":@h|7000/0 plain"),
        ("redis://h:7000/", Auto, ":@h|7000/0 plain"),
        ("redis://h/3", Auto, ":@h|6379/3 plain"),
        ("rediss://h:6380", Auto, ":@h|6380/0 tls"),
        ("valkey://h", Auto, ":@h|6379/0 plain"),
        ("valkeys://h", Auto, ":@h|6379/0 tls"),
        ("REDIS://H.Example", Auto, ":@h.example|6379/0 plain"),
        ("h", Auto, ":@h|6379/0 plain"),
        ("h:7000", Auto, ":@h|7000/0 plain"),
        // Who logs in.
        ("redis://app:pw@h", Auto, "app:pw@h|6379/0 plain"),
        ("redis://:pw@h", Auto, ":pw@h|6379/0 plain"),
        ("redis://app@h", Auto, "app:@h|6379/0 plain"),
        ("redis://a%40b:p%3Aw%2F%25%20%2C@h/1", Auto, "a@b:p:w/% ,@h|6379/1 plain"),
        ("redis://:p@ss:w/rd@h", Auto, ":p@ss:w/rd@h|6379/0 plain"),
        // IPv6.
        ("redis://[::1]", Auto, ":@::1|6379/0 plain"),
        ("redis://[fe80::2]:7000/1", Auto, ":@fe80::2|7000/1 plain"),
    ]);
}

#[test]
fn k2_every_way_to_write_several_hosts_is_understood() {
    use Topology::{Auto, Cluster};
    check(&[
        // Lists.
        ("[::1]:7000,[::2]", Auto, ":@::1|7000,::2|6379/0 plain"),
        ("a:1,b:2,c", Auto, ":@a|1,b|2,c|6379/0 plain"),
        ("redis://a:1, redis://b:2", Auto, ":@a|1,b|2/0 plain"),
        ("redis://u:p@a:1,b:2,c:3", Auto, "u:p@a|1,b|2,c|3/0 plain"),
        (r#"[{"host":"a","port":1},{"host":"b"}]"#, Auto, ":@a|1,b|6379/0 plain"),
        (r#" [ {"port":"7","host":"::1"} ] "#, Auto, ":@::1|7/0 plain"),
        (r#"["redis://:pw@a:1","b:2"]"#, Auto, ":pw@a|1,b|2/0 plain"),
        // Redis Cluster.
        ("redis-cluster://a:1", Cluster, ":@a|1/0 plain"),
        ("rediss-cluster://u:p@a:1,b:2", Cluster, "u:p@a|1,b|2/0 tls"),
        ("redis-cluster://a:1?node=b:2&node=[::1]:3", Cluster, ":@a|1,b|2,::1|3/0 plain"),
        ("valkey-cluster://a", Cluster, ":@a|6379/0 plain"),
        // Sentinel.
        ("redis-sentinel://a", sentinel("mymaster"), ":@a|26379/0 plain"),
        ("rediss-sentinel://a:1,b/2", sentinel("mymaster"), ":@a|1,b|26379/2 tls"),
        (
            "redis-sentinel://u:p@a?node=b:5&sentinelServiceName=my%20one",
            sentinel("my one"),
            "u:p@a|26379,b|5/0 plain",
        ),
    ]);
}

#[test]
fn k2_what_is_no_address_is_refused_by_name_and_without_its_text() {
    for url in [
        "redis://hunter2:99999",
        "redis://hunter2:0",
        "redis://hunter2:",
        "redis://hunter2:+1",
        "redis://",
        "redis:///0",
        "http://hunter2",
        "redis-sentinels://hunter2",
        "mysql-cluster://hunter2",
        "redis://hunter2/one",
        "redis://hunter2/256",
        "redis://::1:hunter2",
        "redis://[hunter2]:1",
        "redis://[::1",
        "redis://[::1]hunter2",
        "redis://:hunter2%4@h",
        "redis://:hunter2%zz@h",
        "redis://:hunter2%ff@h",
        "redis://:hunter2#@h",
        "redis://h?hunter2=1",
        "redis://h?sentinelServiceName=hunter2",
        "redis://a b",
        "a,,hunter2",
        "redis://a,rediss://hunter2",
        "redis://u:hunter2@a,redis://u:other@b",
        "redis://a/1,redis://b/2",
        "[]",
        "[hunter2",
        r#"[{"host":"hunter2""#,
        r#"[{"host":"hunter2","port":1}"#,
        r#"[{"host":"hunter2","port":99999}]"#,
        r#"[{"host":"hunter2","port":-1}]"#,
        r#"[{"host":"a","password":"hunter2"}]"#,
        r#"[{"port":1}]"#,
        r#"[1]"#,
        "redis-cluster://hunter2/1",
    ] {
        let errors = read(&[("REDIS_URL", url)]).expect_err(url).to_string();
        assert!(errors.starts_with("UNDERSTUDY_REDIS_URL: "), "{url}: {errors}");
        assert!(!errors.contains("hunter2"), "{url}: {errors}");
        assert!(!errors.contains('\n'), "{url}: {errors}");
    }
}

#[test]
fn k2_the_mode_decides_where_the_address_leaves_it_open() {
    let topology = |mode, url| {
        read(&[("REDIS_MODE", mode), ("REDIS_URL", url)]).map(|config| config.targets.topology)
    };
    let list = r#"[{"host":"a","port":1},{"host":"b","port":2}]"#;
    assert_eq!(topology("auto", list), Ok(Topology::Auto));
    assert_eq!(topology("cluster", list), Ok(Topology::Cluster));
    assert_eq!(topology("sentinel", list), Ok(sentinel("mymaster")));
    assert_eq!(topology("standalone", "redis://a"), Ok(Topology::Standalone));
    assert_eq!(topology("cluster", "redis://a"), Ok(Topology::Cluster));
    for (mode, url) in [
        ("standalone", list),
        ("standalone", "redis-cluster://a"),
        ("sentinel", "redis-cluster://a"),
        ("cluster", "redis-sentinel://a"),
        ("Cluster", "redis://a"),
    ] {
        assert!(topology(mode, url).is_err(), "{mode} {url}");
    }
}

#[test]
fn k2_options_named_as_in_ioredis_take_the_place_of_variables() {
    let options = r#"{"username":"app","password":"pw","db":2,"connectTimeout":2000,
        "commandTimeout":400,"tls":{}}"#;
    let config = read(&[("REDIS_URL", "h:1"), ("REDIS_OPTIONS", options)]).unwrap();
    assert_eq!(summary(&config), "app:pw@h|1/2 tls");
    assert_eq!(config.connect_timeout.as_millis(), 2000);
    assert_eq!(config.command_timeout.as_millis(), 400);

    let options =
        r#"{"sentinelName":"main","sentinelPassword":"sp","redisOptions":{"password":"pw"}}"#;
    let config = read(&[("REDIS_URL", "a,b"), ("REDIS_OPTIONS", options)]).unwrap();
    assert_eq!(config.targets.topology, sentinel("main"));
    assert_eq!(summary(&config), ":pw@a|26379,b|26379/0 plain");
    assert_eq!(config.sentinel_password.unwrap().expose(), "sp");
}

#[test]
fn k2_wrong_options_are_refused_by_name_and_without_their_text() {
    for options in [
        "{hunter2",
        r#"{"password":"hunter2""#,
        r#""hunter2""#,
        "[1]",
        r#"{"hunter2":1}"#,
        r#"{"password":1}"#,
        r#"{"db":"hunter2"}"#,
        r#"{"db":256}"#,
        r#"{"connectTimeout":-1}"#,
        r#"{"connectTimeout":1}"#,
        r#"{"tls":{"rejectUnauthorized":false}}"#,
        r#"{"redisOptions":{"redisOptions":{}}}"#,
        r#"{"redisOptions":"hunter2"}"#,
    ] {
        let errors =
            read(&[("REDIS_URL", "h"), ("REDIS_OPTIONS", options)]).expect_err(options).to_string();
        assert!(errors.starts_with("UNDERSTUDY_REDIS_OPTIONS"), "{options}: {errors}");
        assert!(!errors.contains("hunter2"), "{options}: {errors}");
    }
}

#[test]
fn k2_the_same_thing_may_be_said_twice_but_not_differently() {
    let url = ("REDIS_URL", "redis://app:pw@h/1");
    for same in [
        ("REDIS_PASSWORD", "pw"),
        ("REDIS_USERNAME", "app"),
        ("REDIS_DB", "1"),
        ("REDIS_OPTIONS", r#"{"password":"pw","db":1}"#),
    ] {
        assert_eq!(summary(&read(&[url, same]).unwrap()), "app:pw@h|6379/1 plain", "{same:?}");
    }
    for other in [
        ("REDIS_PASSWORD", "hunter2"),
        ("REDIS_USERNAME", "hunter2"),
        ("REDIS_DB", "2"),
        ("REDIS_OPTIONS", r#"{"password":"hunter2"}"#),
    ] {
        let errors = read(&[url, other]).expect_err(other.0).to_string();
        assert!(errors.contains("says something else than UNDERSTUDY_REDIS_URL"), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
    let both = [url, ("REDIS_DB", "1"), ("REDIS_OPTIONS", r#"{"db":2}"#)];
    let errors = read(&both).unwrap_err().to_string();
    assert_eq!(
        errors,
        "UNDERSTUDY_REDIS_OPTIONS: says something else about db than UNDERSTUDY_REDIS_DB"
    );
    assert!(read(&[("REDIS_URL", "rediss://h"), ("REDIS_TLS", "false")]).is_err());
    assert!(read(&[("REDIS_URL", "redis://h"), ("REDIS_TLS", "true")]).unwrap().targets.tls);
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let url = ("REDIS_URL", "rediss://h");
    assert!(read(&[url, ("REDIS_TLS_CERT_FILE", path)]).is_err());
    assert!(read(&[url, ("REDIS_TLS_CERT_FILE", path), ("REDIS_TLS_KEY_FILE", path)]).is_ok());
    assert!(read(&[url, ("REDIS_TLS_CA_FILE", "/nowhere/ca.pem")]).is_err());
}
