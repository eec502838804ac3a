//! Pages that name tests: what they name is there.

use std::collections::BTreeSet;
use std::path::Path;

use understudy_tests::oracle;

use super::files::{project, read};

/// Each promise of these is followed by the tests that show it.
const PAGES: [&str; 4] = [
    "GUARANTEES.md",
    "docs/compliance-asvs.md",
    "docs/porting-from-actix-session.md",
    "tests/README.md",
];

/// Names of this many words at least are those of tests; metrics, codes and calls on these pages are shorter.
const WORDS: usize = 4;

/// How many requirements each part of the standard has.
const REQUIREMENTS: [(&str, usize); 7] =
    [("3.3", 5), ("7.1", 3), ("7.2", 4), ("7.3", 2), ("7.4", 5), ("7.5", 3), ("7.6", 2)];

/// The names of tests in a text.
fn tests_in(text: &str) -> BTreeSet<&str> {
    let is_name = |word: &&str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        word.bytes().all(plain) && word.split('_').count() >= WORDS
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// All functions of the project, by name.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["runtime", "session", "scheduler", "src", "tests"] {
        functions_in(&project().join(folder), &mut names);
    }
    names
}

fn functions_in(folder: &Path, names: &mut BTreeSet<String>) {
    let files = std::fs::read_dir(folder).expect("the folder is there");
    for file in files.map(|file| file.expect("it can be read").path()) {
        if file.is_dir() {
            functions_in(&file, names);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&file).expect("it can be read");
            let rest = text.split("fn ").skip(1);
            let name = |rest: &str| rest.split(['(', '<']).next().unwrap_or_default().to_owned();
            names.extend(rest.map(name));
        }
    }
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let functions = functions();
    for page in PAGES {
        let text = read(page);
        let named = tests_in(&text);
        assert!(!named.is_empty(), "{page} names no test");
        let missing: Vec<&&str> = named.iter().filter(|name| !functions.contains(**name)).collect();
        assert!(missing.is_empty(), "{page} names tests that are not there: {missing:?}");
        oracle::note(&format!("{page} names {} tests", named.len()));
    }
}

#[test]
fn the_page_of_the_standard_has_every_requirement_with_what_shows_it() {
    let page = read("docs/compliance-asvs.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| 3.3.") || line.starts_with("| 7."))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut wanted = BTreeSet::new();
    for (part, count) in REQUIREMENTS {
        wanted.extend((1..=count).map(|number| format!("{part}.{number}")));
    }
    let found: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "each once, in order");
    for row in &rows {
        let [number, level, asks, product, .., shown] = &row[..] else {
            panic!("six columns: {row:?}")
        };
        assert!(matches!(*level, "1" | "2" | "3"), "{number}: {level}");
        assert!(!asks.is_empty() && !product.is_empty(), "{number}");
        // A federation is none of the product's business; nothing else goes without a test.
        assert!(*number == "7.1.3" || !tests_in(shown).is_empty(), "{number} is shown by nothing");
    }
    oracle!(
        "requirements",
        rows.len(),
        REQUIREMENTS.iter().map(|(_, count)| *count).sum::<usize>()
    );
}
