//! Settings on SQLite and on a real PostgreSQL, with a clock of the node that is years away from the database's.

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::bus::{Bus, LocalHub};
use crate::clock::ManualClock;
use crate::config::{DatabaseUrl, MigrateMode};
use crate::database::test_postgres::{TestPostgres, test_config};
use crate::http::Mode;
use crate::http::maintenance::Notice;
use crate::membership::{Membership, record_for_test};
use crate::redis::testing::node;

const MINUTE: Duration = Duration::from_secs(60);

/// Two nodes on one database.
struct Bench {
    database: Database,
    clock: Arc<ManualClock>,
    a: Settings,
    b: Settings,
    bus: Bus,
    postgres: Option<TestPostgres>,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = test_config(DatabaseUrl::Sqlite(folder.path().join("settings.sqlite3")));
        let database = Database::connect(&config).await.unwrap();
        Self::on(database, None, Some(folder)).await
    }

    async fn postgres() -> Self {
        let server = TestPostgres::start();
        let database = Database::connect(&server.config()).await.unwrap();
        Self::on(database, Some(server), None).await
    }

    async fn on(
        database: Database,
        postgres: Option<TestPostgres>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        database.migrate(MigrateMode::Auto, &[], &|_| {}).await.unwrap();
        let hub = LocalHub::new();
        let clock = Arc::new(ManualClock::new());
        let settings = |name: &str| {
            let id = node(name);
            let bus = Bus::local(&hub, id.clone());
            let membership = Membership::single(record_for_test(id.clone()));
            let shared: SharedClock = Arc::clone(&clock) as SharedClock;
            let tools = SettingsTools {
                node: id,
                clock: Arc::clone(&shared),
                database: database.clone(),
                broadcast: Broadcast::new(bus.clone(), membership, Duration::from_secs(5)),
                events: Events::new(shared),
            };
            let settings = Settings::new(&Config::for_test(), tools);
            settings.listen();
            (settings, bus)
        };
        let ((a, bus), (b, _)) = (settings("a"), settings("b"));
        Self { a, b, bus, clock, database, postgres, _folder: folder }
    }

    /// Each test stands for both databases.
    async fn both() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }

    async fn execute(&self, sql: &str) {
        self.database.connection().execute_unprepared(sql).await.unwrap();
    }
}

fn filter(value: Option<&str>) -> Change {
    Change {
        name: LOG_FILTER.name,
        node: String::new(),
        value: value.map(str::to_owned),
        by: "mary".to_owned(),
        why: "a test".to_owned(),
        lasts: None,
        only_at: None,
    }
}

fn maintenance(mode: Mode, node: &str) -> Change {
    let notice = Notice { mode, message: "soon".to_owned(), retry_after_s: 7 };
    Change {
        name: MAINTENANCE.name,
        node: node.to_owned(),
        value: Some(notice.to_text()),
        ..filter(None)
    }
}

fn mode(settings: &Settings) -> Mode {
    Notice::parse(&settings.value(&MAINTENANCE)).unwrap().mode
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_change_is_in_force_when_it_is_answered_and_is_read_again() {
    for bench in Bench::both().await {
        let usual = bench.a.default_of(&LOG_FILTER);
        let mut followed = bench.a.follow(&LOG_FILTER);
        assert_eq!(*followed.borrow_and_update(), usual);
        let applied: Arc<ArcSwap<String>> = Arc::default();
        let seen = Arc::clone(&applied);
        bench.a.applies(&LOG_FILTER, move |value| seen.store(Arc::new(value.to_owned())));
        assert_eq!(**applied.load(), *usual, "at once");
        let changed = bench.a.change(filter(Some("debug"))).await.unwrap();
        assert_eq!(changed, Changed { revision: 1, unreachable: Vec::new() });
        assert_eq!(&*bench.a.value(&LOG_FILTER), "debug");
        assert_eq!(**applied.load(), "debug");
        assert_eq!(&**followed.borrow_and_update(), "debug");
        assert_eq!(bench.b.look(0).await.unwrap(), 1);
        let row = bench.b.decided_by(&LOG_FILTER).unwrap();
        assert_eq!((&*row.value, &*row.by, &*row.why), ("debug", "mary", "a test"));
        assert!(row.at_ms > 1_767_225_600_000 && row.until_ms.is_none(), "{row:?}");
        let reset = bench.a.change(filter(None)).await.unwrap();
        assert_eq!(reset.revision, 2);
        assert_eq!(bench.a.value(&LOG_FILTER), usual);
        assert_eq!(**applied.load(), *usual);
        assert!(bench.a.stored().is_empty() && bench.a.revision() == 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_another_node_knows_when_it_has_answered() {
    for bench in Bench::both().await {
        bench.a.change(filter(Some("debug"))).await.unwrap();
        assert_eq!(bench.b.value(&LOG_FILTER), bench.b.default_of(&LOG_FILTER));
        let told = SettingsChanged { revision: 1 };
        let b = &bench.b.inner.node;
        assert_eq!(bench.bus.request(b, &told, MINUTE).await, Ok(true));
        assert_eq!(&*bench.b.value(&LOG_FILTER), "debug");
        let unheard = SettingsChanged { revision: 9 };
        assert_eq!(bench.bus.request(b, &unheard, MINUTE).await, Ok(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_setting_goes_back_by_itself() {
    for bench in Bench::both().await {
        let usual = bench.a.default_of(&LOG_FILTER);
        let lasting = Change { lasts: Some(MINUTE), ..filter(Some("debug")) };
        bench.a.change(lasting.clone()).await.unwrap();
        let row = bench.a.decided_by(&LOG_FILTER).unwrap();
        assert_eq!(row.until_ms, Some(row.at_ms + 60_000));
        bench.clock.advance(MINUTE - Duration::from_secs(1));
        bench.a.apply().await;
        assert_eq!(&*bench.a.value(&LOG_FILTER), "debug");
        bench.clock.advance(Duration::from_secs(1));
        assert!(bench.a.apply().await);
        assert_eq!(bench.a.value(&LOG_FILTER), usual);
        assert!(bench.a.stored().is_empty());
        // By the database's clock it still counts: this node's own is in a hurry.
        assert_eq!(bench.b.look(0).await.unwrap(), 1);
        assert_eq!(&*bench.b.value(&LOG_FILTER), "debug");
        bench.execute("UPDATE us_setting SET until_ms = 1 WHERE name <> ''").await;
        bench.b.look(0).await.unwrap();
        assert_eq!(bench.b.value(&LOG_FILTER), usual);
        // Nobody has set it, as far as the next one is concerned; and what is over is taken away.
        let only_new = Change { only_at: Some(0), ..maintenance(Mode::Full, "") };
        bench.a.change(only_new).await.unwrap();
        assert_eq!(bench.a.board().rows_for_test(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_of_two_who_have_read_the_same_one_may_change_it() {
    for bench in Bench::both().await {
        let at = |revision| Change { only_at: Some(revision), ..filter(Some("debug")) };
        let refused = bench.a.change(at(1)).await.unwrap_err();
        assert!(matches!(refused, ChangeError::Changed(0)), "{refused}");
        assert_eq!(
            bench.a.change(at(0)).await.unwrap().revision,
            1,
            "a refusal counts for nothing"
        );
        let refused = bench.a.change(at(0)).await.unwrap_err();
        assert!(matches!(refused, ChangeError::Changed(1)), "{refused}");
        assert_eq!(bench.a.change(at(1)).await.unwrap().revision, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_many_changes_at_once_wait_for_each_other() {
    for bench in Bench::both().await {
        let changes = (0..20).map(|number| {
            let settings = if number % 2 == 0 { &bench.a } else { &bench.b };
            settings.change(filter(Some(if number % 2 == 0 { "debug" } else { "warn" })))
        });
        let mut revisions: Vec<i64> = futures_util::future::join_all(changes)
            .await
            .into_iter()
            .map(|changed| changed.unwrap().revision)
            .collect();
        revisions.sort_unstable();
        assert_eq!(revisions, (1..=20).collect::<Vec<i64>>());
        for settings in [&bench.a, &bench.b] {
            settings.look(0).await.unwrap();
        }
        assert_eq!(bench.a.value(&LOG_FILTER), bench.b.value(&LOG_FILTER));
        assert_eq!(bench.a.decided_by(&LOG_FILTER).unwrap().revision, 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_what_a_newer_program_has_set_is_kept_and_passed_over() {
    for bench in Bench::both().await {
        let newer = "INSERT INTO us_setting (name, node, value, by_name, why, at_ms, until_ms, revision) VALUES \
                     ('zz.newer', '', '42', 'x', 'y', 1, NULL, 1), \
                     ('log_filter', '', 'what=is=this', 'x', 'y', 1, NULL, 1), \
                     ('maintenance', '', '{\"mode\":\"dreaming\"}', 'x', 'y', 1, NULL, 1)";
        bench.execute(newer).await;
        bench.a.look(0).await.unwrap();
        assert_eq!(bench.a.value(&LOG_FILTER), bench.a.default_of(&LOG_FILTER));
        assert_eq!(mode(&bench.a), Mode::Off);
        bench.a.change(filter(Some("debug"))).await.unwrap();
        let names: Vec<String> = bench.a.stored().into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["log_filter", "maintenance", "zz.newer"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_of_cluster_and_node_the_stricter_maintenance_counts() {
    let bench = Bench::sqlite().await;
    let both = async |cluster: Mode, of_a: Mode| {
        bench.a.change(maintenance(cluster, "")).await.unwrap();
        bench.a.change(maintenance(of_a, "a")).await.unwrap();
        bench.b.look(0).await.unwrap();
        (mode(&bench.a), mode(&bench.b))
    };
    assert_eq!(both(Mode::Full, Mode::ReadOnly).await, (Mode::Full, Mode::Full));
    assert_eq!(both(Mode::ReadOnly, Mode::Full).await, (Mode::Full, Mode::ReadOnly));
    let off = Change { value: None, ..maintenance(Mode::Off, "") };
    bench.a.change(off).await.unwrap();
    bench.b.look(0).await.unwrap();
    assert_eq!((mode(&bench.a), mode(&bench.b)), (Mode::Full, Mode::Off));
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_while_the_database_is_away_what_is_known_stays_and_ends_in_its_time() {
    let mut bench = Bench::postgres().await;
    let lasting = Change { lasts: Some(MINUTE), ..filter(Some("debug")) };
    bench.a.change(lasting).await.unwrap();
    bench.a.change(maintenance(Mode::Full, "")).await.unwrap();
    if let Some(postgres) = &mut bench.postgres {
        postgres.kill();
    }
    assert!(bench.a.look(0).await.is_err());
    let error = bench.a.change(filter(Some("warn"))).await.unwrap_err();
    assert!(matches!(&error, ChangeError::Database(error) if error.is_retryable()), "{error}");
    assert_eq!(&*bench.a.value(&LOG_FILTER), "debug");
    bench.clock.advance(MINUTE);
    bench.a.apply().await;
    assert_eq!(bench.a.value(&LOG_FILTER), bench.a.default_of(&LOG_FILTER));
    assert_eq!(mode(&bench.a), Mode::Full, "without an end it has none");
}

#[test]
fn g4_a_log_filter_is_refused_unless_all_of_it_means_something() {
    for good in ["info", "warn,understudy_session=debug", "off", "INFO,a::b=trace", "[span]=debug"]
    {
        assert_eq!(LOG_FILTER.check(good), Ok(()), "{good}");
    }
    for (wrong, expected) in [
        ("", "must be 1 to 2000 bytes"),
        ("  ", "must be 1 to 2000 bytes"),
        ("in\nfo", "control characters"),
        ("debgu", "`debgu` is no level"),
        ("info,understudy_session", "`understudy_session` is no level"),
        ("info,", "`` is no level"),
        ("a=b=c", "it must be a level"),
        ("understudy=loud", "it must be a level"),
    ] {
        let told = LOG_FILTER.check(wrong).unwrap_err();
        assert!(told.contains(expected), "{wrong}: {told}");
    }
}

#[test]
fn every_setting_has_a_name_of_its_own_and_a_default_that_it_takes() {
    let config = Config::for_test();
    for (number, known) in KNOWN.iter().enumerate() {
        assert_eq!(known.number(), number);
        assert_eq!(known.check(&(known.default)(&config)), Ok(()), "{}", known.name);
        assert!(!known.meaning.ends_with('.'), "{}", known.name);
    }
}
