//! The options of leader and jobs, through the variables an operator sets.

use super::*;

const TTL: &str = "UNDERSTUDY_LEADER_TTL_MS";
const RENEW: &str = "UNDERSTUDY_LEADER_RENEW_MS";
const MARGIN: &str = "UNDERSTUDY_LEADER_MARGIN_MS";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn l1_a_leader_renews_three_times_in_its_time_and_stops_a_margin_before_its_end() {
    let times = |vars: &[(&str, &str)]| {
        let leader = good(vars).leader;
        (leader.ttl, leader.renew, leader.margin)
    };
    assert_eq!(times(&[]), (ms(5_000), ms(1_666), ms(500)));
    assert_eq!(times(&[(TTL, "1000")]), (ms(1_000), ms(333), ms(500)));
    assert_eq!(times(&[(TTL, "30000")]), (ms(30_000), ms(10_000), ms(3_000)));
    let all = [(TTL, "2000"), (RENEW, "500"), (MARGIN, "100")];
    assert_eq!(times(&all), (ms(2_000), ms(500), ms(100)));
    let redacted = good(&[]).redacted();
    assert_eq!((redacted[RENEW].as_str(), redacted[MARGIN].as_str()), ("1666", "500"));
}

#[test]
fn l1_times_of_a_leader_that_contradict_each_other_are_refused() {
    assert_eq!(wrong(&[(RENEW, "2500")]), [RENEW]);
    good(&[(RENEW, "2499")]);
    assert_eq!(wrong(&[(MARGIN, "3334")]), [MARGIN]);
    good(&[(MARGIN, "3333")]);
    for (name, value) in [(TTL, "999"), (TTL, "300001"), (RENEW, "0"), (MARGIN, "0")] {
        assert_eq!(wrong(&[(name, value)]), [name], "{value}");
    }
}

#[test]
fn contradictions_of_leader_and_jobs_are_told_together() {
    let (stale, window) = ("UNDERSTUDY_JOBS_STALE_AFTER_MS", "UNDERSTUDY_JOBS_MISFIRE_WINDOW_S");
    let vars = [
        (RENEW, "2500"),
        ("UNDERSTUDY_JOBS_ALIVE_MS", "10001"),
        ("UNDERSTUDY_JOBS_MISFIRE_AFTER_MS", "60000"),
        (window, "59"),
        ("UNDERSTUDY_JOBS_TICK_MS", "49"),
    ];
    assert_eq!(wrong(&vars), [window, stale, "UNDERSTUDY_JOBS_TICK_MS", RENEW]);
    good(&[("UNDERSTUDY_JOBS_ALIVE_MS", "10000")]);
    let slow = [("UNDERSTUDY_JOBS_TICK_MS", "2001")];
    assert_eq!(good(&slow).warnings.len(), 1, "late because nobody looked");
}

#[test]
fn l6_the_lease_of_the_leader_is_in_the_redis_of_all_or_in_one_of_its_own() {
    let host = |config: Config| config.leader.redis.map(|redis| redis.targets.hosts[0].0.clone());
    assert_eq!(host(good(&[])), None);
    assert_eq!(host(good(&CLUSTER)).as_deref(), Some("r"));
    let own = "UNDERSTUDY_LEADER_REDIS_URL";
    assert_eq!(host(good(&cluster_with(own, "redis://leases"))).as_deref(), Some("leases"));
    assert_eq!(wrong(&cluster_with(own, "redis://h:99999")), [own]);
}

#[test]
fn who_may_lead_is_said_per_node() {
    let leader = good(&CLUSTER).leader;
    assert_eq!((leader.eligible, leader.priority, leader.min_replicas), (true, 0, 0));
    assert_eq!(leader.fallback, LeaderFallback::Off);
    let (eligible, priority) = ("UNDERSTUDY_LEADER_ELIGIBLE", "UNDERSTUDY_LEADER_PRIORITY");
    assert!(good(&cluster_with(eligible, "false")).warnings.is_empty());
    assert_eq!(good(&[(eligible, "false")]).warnings.len(), 1, "then nobody leads");
    assert_eq!(good(&[(priority, "1000")]).leader.priority, 1_000);
    assert_eq!(wrong(&[(priority, "1001")]), [priority]);
    assert_eq!(wrong(&[(priority, "-1")]), [priority]);
    let fallback = good(&[("UNDERSTUDY_LEADER_FALLBACK", "database")]).leader.fallback;
    assert_eq!(fallback, LeaderFallback::Database);
}

#[test]
fn j1_jobs_are_all_none_or_those_of_a_list() {
    let name = "UNDERSTUDY_JOBS_ENABLED";
    assert_eq!(good(&[]).jobs.enabled, JobsEnabled::All);
    assert_eq!(good(&[(name, "none")]).jobs.enabled, JobsEnabled::None);
    let some = good(&[(name, "nightly-report, sweep,")]).jobs.enabled;
    let names = ["nightly-report", "sweep"].map(str::to_owned);
    assert_eq!(some, JobsEnabled::List(names.into()));
    assert!(some.includes("sweep") && !some.includes("other"));
    for bad in [",", "all,sweep", "sweep,none", "two words", "a;b"] {
        assert_eq!(wrong(&[(name, bad)]), [name], "{bad}");
    }
}

#[test]
fn the_usual_options_of_jobs_are_those_of_the_page() {
    let jobs = good(&[]).jobs;
    assert!(jobs.file.is_none() && jobs.threads >= 1);
    assert_eq!(
        (jobs.concurrency, jobs.history_max_per_job, jobs.cleanup_batch),
        (10, 10_000, 10_000)
    );
    assert_eq!((jobs.tick, jobs.alive, jobs.stale_after), (ms(1_000), ms(5_000), ms(30_000)));
    assert_eq!((jobs.misfire_after, jobs.misfire_grace), (ms(2_000), ms(3_600_000)));
    assert_eq!((jobs.history, jobs.shutdown_grace), (ms(604_800_000), ms(10_000)));
    assert_eq!(good(&[("UNDERSTUDY_JOBS_SHUTDOWN_GRACE_MS", "0")]).jobs.shutdown_grace, ms(0));
}

#[test]
fn a_time_zone_looks_like_one() {
    let name = "UNDERSTUDY_JOBS_TIMEZONE";
    assert_eq!(good(&[]).jobs.time_zone, "UTC");
    for zone in ["Europe/Oslo", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"] {
        assert_eq!(good(&[(name, zone)]).jobs.time_zone, zone);
    }
    for bad in ["+02:00", "Europe/", "Europe//Oslo", "../etc/passwd", "Europe Oslo", "/UTC"] {
        assert_eq!(wrong(&[(name, bad)]), [name], "{bad}");
    }
}

#[test]
fn a_file_of_jobs_is_a_file() {
    let name = "UNDERSTUDY_JOBS_FILE";
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(good(&[(name, path)]).jobs.file.as_deref(), Some(file.path()));
    assert_eq!(wrong(&[(name, "/nowhere/canary.toml")]), [name]);
    let folder = file.path().parent().unwrap().to_str().unwrap();
    assert_eq!(wrong(&[(name, folder)]), [name]);
}
