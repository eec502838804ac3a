//! What files and spaces may be called, and which type one has.

use unicode_normalization::UnicodeNormalization as _;

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

/// The name of a file, or of a space, is one segment of a path, and shows what it is. What looks the same is the same: it is
/// kept in the composed form of Unicode (NFC).
pub(super) fn checked(name: &str) -> Option<String> {
    // The composed form is never shorter than a third.
    if name.len() > 3 * LONGEST {
        return None;
    }
    let name: String = name.nfc().collect();
    let good = !name.is_empty()
        && name.len() <= LONGEST
        && !matches!(name.as_str(), "." | "..")
        && !name.chars().any(is_odd);
    good.then_some(name)
}

/// Makes a name that a file may have of one that somebody chose for it elsewhere, such as a browser for an upload: what is
/// behind the last slash or backslash of it, without what is not seen or leads elsewhere, as far as there is room. `file` if
/// nothing is left.
///
/// ```
/// use understudy_runtime::files::safe_name;
///
/// assert_eq!(safe_name("../../etc/passwd"), "passwd");
/// assert_eq!(safe_name("C:\\Scans\\May.pdf"), "May.pdf");
/// assert_eq!(safe_name(".."), "file");
/// ```
#[must_use]
pub fn safe_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or(given);
    // More than this has no room whatever becomes of it; so nobody makes work with a long name.
    let some = last.chars().take(4 * LONGEST).filter(|character| !is_odd(*character));
    let mut name = String::new();
    for character in some.nfc() {
        if name.len() + character.len_utf8() > LONGEST {
            break;
        }
        name.push(character);
    }
    checked(name.trim()).unwrap_or_else(|| "file".to_owned())
}

pub(super) fn file_name(name: &str) -> Result<String, FileError> {
    checked(name).ok_or(FileError::BadName { field: "name" })
}

pub(super) fn space_name(name: &str) -> Result<String, FileError> {
    checked(name).ok_or(FileError::BadName { field: "space" })
}

/// Behind which name a list goes on: behind none at its beginning.
pub(super) fn behind(after: &str) -> Result<String, FileError> {
    if after.is_empty() {
        return Ok(String::new());
    }
    checked(after).ok_or(FileError::BadName { field: "after" })
}

/// What leads elsewhere, is not seen, or turns the order of what is seen.
fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character, '/' | '\\')
        || matches!(
            character,
            '\u{61c}' | '\u{180e}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
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
        // Composed and decomposed are one name.
        assert_eq!(checked("Gru\u{308}\u{df}e").as_deref(), Some("Gr\u{fc}\u{df}e"));
        assert!(matches!(file_name(""), Err(FileError::BadName { field: "name" })));
        assert!(matches!(space_name(""), Err(FileError::BadName { field: "space" })));
        assert_eq!((behind("").unwrap(), behind("a").unwrap()), (String::new(), "a".to_owned()));
        assert!(matches!(behind("a\0"), Err(FileError::BadName { field: "after" })));
    }

    #[test]
    fn x5_of_a_name_from_elsewhere_the_part_that_may_be_is_kept() {
        for (given, kept) in [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("a\0b", "ab"),
            ("a\r\nset-cookie: x", "aset-cookie: x"),
            ("gpj\u{202e}.exe", "gpj.exe"),
            ("CON", "CON"),
            ("\u{1f600}.png", "\u{1f600}.png"),
            (" a ", "a"),
            ("", "file"),
            ("a/", "file"),
            ("..", "file"),
        ] {
            assert_eq!(safe_name(given), kept, "{given:?}");
        }
        assert_eq!(safe_name(&"x".repeat(300)), "x".repeat(255));
        // No character is cut in two.
        assert_eq!(safe_name(&"\u{fc}".repeat(300)), "\u{fc}".repeat(127));
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
