//! What files and spaces may be called, and which type one has.

use super::error::FileError;

/// Longest name of a file, of a space, and of a type.
const LONGEST: usize = 255;
/// The type of a file whose type is not known.
pub const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Gives a type that can stand in an answer: the one that was said, or that of a file of which nothing is known.
#[must_use]
pub fn type_of(given: &str) -> String {
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    let good = given.len() <= LONGEST && given.contains('/') && given.bytes().all(plain);
    if good { given.to_owned() } else { UNKNOWN_TYPE.to_owned() }
}

/// The name of a file, or of a space, is one segment of a path, and shows what it is.
pub(super) fn checked(name: &str) -> Option<String> {
    let good = !name.is_empty()
        && name.len() <= LONGEST
        && !matches!(name, "." | "..")
        && !name.chars().any(is_odd);
    good.then(|| name.to_owned())
}

pub(super) fn file_name(name: &str) -> Result<String, FileError> {
    checked(name).ok_or(FileError::BadName { field: "name" })
}

pub(super) fn space_name(name: &str) -> Result<String, FileError> {
    checked(name).ok_or(FileError::BadName { field: "space" })
}

/// What leads elsewhere, is not seen, or turns the order of what is seen.
fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character, '/' | '\\')
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_a_name_is_one_segment_and_shows_what_it_is() {
        for good in ["a", "scan 1.pdf", "Grüße.txt", &"x".repeat(255), "...", "a..b", "%2f"] {
            assert_eq!(checked(good).as_deref(), Some(good));
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", "a/b", "..\\b", "a\nb", "\u{85}", "gpj\u{202e}.exe", &long] {
            assert_eq!(checked(bad), None, "{bad:?}");
        }
        assert!(matches!(file_name(""), Err(FileError::BadName { field: "name" })));
        assert!(matches!(space_name(""), Err(FileError::BadName { field: "space" })));
    }

    #[test]
    fn a_type_that_no_header_takes_is_unknown() {
        assert_eq!(type_of("text/plain; charset=utf-8"), "text/plain; charset=utf-8");
        let long = format!("a/{}", "b".repeat(300));
        for odd in ["", "plain", "text/ü", "a/b\r\nset-cookie: x", &long] {
            assert_eq!(type_of(odd), UNKNOWN_TYPE, "{odd}");
        }
    }
}
