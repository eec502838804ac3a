//! Every store passes the suite of the runtime.

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use understudy::runtime::config::Config;
use understudy::runtime::database::Database;
use understudy::runtime::files::conformance::{self, Examined, Fixture};
use understudy_tests::servers::Scratch;
use understudy_tests::{Postgres, S3};

/// Files in one store, and how to count what lies in it.
#[derive(Debug)]
struct Examination<'a> {
    examined: Examined,
    place: Place<'a>,
}

#[derive(Debug)]
enum Place<'a> {
    Memory,
    Database(Database),
    Folder(PathBuf),
    Bucket(&'a S3),
}

impl Fixture for Examination<'_> {
    fn examined(&self) -> &Examined {
        &self.examined
    }

    fn contents(&self) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            match &self.place {
                Place::Memory => self.examined.in_memory_now().unwrap(),
                Place::Database(database) => pieces(database).await,
                Place::Folder(root) => files_in(root),
                Place::Bucket(s3) => s3.objects().len(),
            }
        })
    }
}

async fn pieces(database: &Database) -> usize {
    use understudy::runtime::database::sea_orm::ConnectionTrait as _;
    let sql = "SELECT CAST(count(DISTINCT file) AS bigint) FROM us_file_piece";
    let query = database.backend().statement(sql, []);
    let row = database.connection().query_one_raw(query).await.unwrap().unwrap();
    let count: i64 = row.try_get_by(0).unwrap();
    usize::try_from(count).unwrap()
}

fn files_in(root: &Path) -> usize {
    let names = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let shelves = names(&root.join("data"));
    let kept: usize = shelves.iter().map(|shelf| names(shelf).len()).sum();
    kept + names(&root.join("staging")).len()
}

/// The options of a node with this store; `data` is where its own database is, unless it is told of another.
fn options(data: &Path, more: Vec<(String, String)>) -> Config {
    let own = ("UNDERSTUDY_DATA_DIR".to_owned(), data.display().to_string());
    Config::from_vars([own].into_iter().chain(more)).unwrap()
}

/// Has everything encrypted.
fn encrypted() -> (String, String) {
    let keys = "tests:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    ("UNDERSTUDY_FILES_ENCRYPTION_KEYS".to_owned(), keys.to_owned())
}

fn store(kind: &str) -> (String, String) {
    ("UNDERSTUDY_FILES_STORE".to_owned(), kind.to_owned())
}

/// Opens the files of a node with these options, and its database.
async fn open(config: &Config) -> (Examined, Database) {
    // What a node does first of all: the client of S3 does not begin without.
    rustls::crypto::ring::default_provider().install_default().ok();
    let database = Database::connect(&config.database).await.unwrap();
    (Examined::open(&config.files, &database).await.unwrap(), database)
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_the_store_in_memory_passes() {
    for more in [Vec::new(), vec![encrypted()]] {
        let data = Scratch::new("files-in-memory");
        let config = options(data.path(), more);
        let database = Database::connect(&config.database).await.unwrap();
        let examined = Examined::in_memory(&config.files, &database).await.unwrap();
        conformance::run(&Examination { examined, place: Place::Memory }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_sqlite_passes() {
    for more in [Vec::new(), vec![encrypted()]] {
        let data = Scratch::new("files-in-sqlite");
        let (examined, database) = open(&options(data.path(), more)).await;
        conformance::run(&Examination { examined, place: Place::Database(database) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_postgresql_passes() {
    let (data, postgres) = (Scratch::new("files-in-postgresql"), Postgres::start().await);
    let url = ("UNDERSTUDY_DATABASE_URL".to_owned(), postgres.url());
    // One after the other, and nothing is left of the first.
    for more in [vec![url.clone()], vec![url, encrypted()]] {
        let (examined, database) = open(&options(data.path(), more)).await;
        conformance::run(&Examination { examined, place: Place::Database(database) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_folder_passes() {
    let data = Scratch::new("files-in-a-folder");
    let root = data.join("shared");
    std::fs::create_dir(&root).unwrap();
    let dir = ("UNDERSTUDY_FILES_DIR".to_owned(), root.display().to_string());
    let plain = vec![store("folder"), dir];
    let encrypted = plain.iter().cloned().chain([encrypted()]).collect();
    for more in [plain, encrypted] {
        let (examined, _) = open(&options(data.path(), more)).await;
        conformance::run(&Examination { examined, place: Place::Folder(root.clone()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_bucket_passes() {
    let (data, s3) = (Scratch::new("files-in-a-bucket"), S3::start().await);
    let mut variables = s3.environment();
    variables.push(store("s3"));
    let encrypted = variables.iter().cloned().chain([encrypted()]).collect();
    for more in [variables, encrypted] {
        let (examined, _) = open(&options(data.path(), more)).await;
        conformance::run(&Examination { examined, place: Place::Bucket(&s3) }).await;
        assert_eq!(s3.parts(), 0, "parts of uploads that broke off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_bucket_is_closed_to_who_has_another_key() {
    let (data, s3) = (Scratch::new("files-in-a-bucket"), S3::start().await);
    let mut variables = s3.environment();
    for (name, value) in &mut variables {
        if name == "UNDERSTUDY_FILES_S3_SECRET_KEY" {
            *value = "another-key".to_owned();
        }
    }
    variables.push(store("s3"));
    let (examined, _) = open(&options(data.path(), variables)).await;
    let content = futures_util::stream::iter([Ok::<_, String>("x".into())]);
    let refused = examined.files().space("space").put("name", "a/b", content).await;
    let refused = refused.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    assert!(s3.objects().is_empty());
}
