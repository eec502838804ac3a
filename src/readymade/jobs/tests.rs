//! The file on a disk: read at start, and looked at again.

use super::*;

const GOOD: &str =
    "[[job]]\nname = \"a\"\nschedule = \"manual\"\nhttp = { url = \"http://127.0.0.1/\" }\n";

fn load(path: &Path) -> Result<JobsFile, JobsFileError> {
    JobsFile::load(path, "UTC".parse().unwrap())
}

fn names(file: &JobsFile) -> Vec<&str> {
    file.specs().iter().map(|spec| spec.name.as_str()).collect()
}

#[tokio::test]
async fn a_broken_file_is_told_once_and_what_it_said_before_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, GOOD).unwrap();
    let mut file = load(&path).unwrap();
    assert_eq!(file.look().await, Look::Same);
    std::fs::write(&path, format!("{GOOD}retires = 1\n")).unwrap();
    let Look::Broken(error) = file.look().await else { panic!("it is broken") };
    assert!(error.to_string().contains("jobs.toml:5:1: job `a`: retires is not known"), "{error}");
    assert_eq!(file.look().await, Look::Same);
    assert_eq!(names(&file), ["a"]);
    std::fs::write(&path, format!("{GOOD}\n{}", GOOD.replace("\"a\"", "\"b\""))).unwrap();
    assert_eq!(file.look().await, Look::Good);
    assert_eq!(names(&file), ["a", "b"]);
    assert_eq!(file.look().await, Look::Same);
}

#[tokio::test]
async fn a_file_that_is_gone_is_broken_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, GOOD).unwrap();
    let mut file = load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(file.look().await, Look::Broken(_)));
    assert_eq!(file.look().await, Look::Same);
    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(file.look().await, Look::Good);
    assert_eq!(names(&file), ["a"]);
}

#[tokio::test]
async fn a_file_that_was_only_written_again_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    std::fs::write(&path, GOOD).unwrap();
    let mut file = load(&path).unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, GOOD).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(file.look().await, Look::Same);
    std::fs::write(&other, "").unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(file.look().await, Look::Good);
    assert!(file.specs().is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.toml");
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("jobs.toml: cannot be read"), "{text}");
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("UTF-8"), "{text}");
}

#[test]
fn variables_that_this_node_lacks_are_found() {
    let environment = Environment::of([("A", "")]);
    let asked = ["A", "B"].map(|name| ("job".to_owned(), name.to_owned()));
    assert_eq!(unset(&BTreeSet::from(asked), &environment), [("job".to_owned(), "B".to_owned())]);
}
