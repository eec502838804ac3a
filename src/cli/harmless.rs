//! Bytes that the cluster sent, made harmless for a terminal wherever the network cuts them.
//!
//! Only for answers that are passed on as they came; what is laid out for people is cleaned in `paper`.

use super::paper::is_harmful;

/// Makes bytes harmless, part by part.
#[derive(Debug, Default)]
pub(super) struct Harmless {
    /// The beginning of a character whose rest is in the next part.
    begun: Vec<u8>,
}

impl Harmless {
    /// Takes a part; gives what can be shown by now.
    pub(super) fn take(&mut self, part: &[u8]) -> String {
        self.begun.extend_from_slice(part);
        let whole = self.begun.len() - unfinished(&self.begun);
        let shown = escaped(&String::from_utf8_lossy(&self.begun[..whole]));
        self.begun.drain(..whole);
        shown
    }

    /// Gives what is left when nothing more comes.
    pub(super) fn end(&mut self) -> String {
        let left = std::mem::take(&mut self.begun);
        escaped(&String::from_utf8_lossy(&left))
    }
}

/// How many bytes at the end are the beginning of a character, and nothing that could never be one.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(last) {
        Err(error) if error.error_len().is_none() => last.len(),
        Ok(_) | Err(_) => 0,
    }
}

/// Writes what could speak to a terminal as JSON would: a string of JSON is then still the same string.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        // These move nothing but the line; between the members of a document the escaped ones would not be JSON any more.
        let is_layout = matches!(character, '\n' | '\t');
        if is_harmful(character) && !is_layout {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "{\"a\":\t\"\x1b[2J\u{9b}2J\u{7f}\u{202e}ø日\"}\r\n";
    const SHOWN: &str = "{\"a\":\t\"\\u001b[2J\\u009b2J\\u007f\\u202eø日\"}\\u000d\n";

    #[test]
    fn what_could_speak_to_a_terminal_is_escaped_wherever_it_is_cut() {
        for size in [1, 2, 3, 5, SENT.len()] {
            let mut harmless = Harmless::default();
            let parts = SENT.as_bytes().chunks(size);
            let shown: String = parts.map(|part| harmless.take(part)).collect();
            assert_eq!(shown + &harmless.end(), SHOWN, "{size}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        let mut harmless = Harmless::default();
        assert_eq!(harmless.take(b"a\x9b2Jb\xc3"), "a\u{fffd}2Jb");
        assert_eq!(harmless.take(b"\n"), "\u{fffd}\n", "the rest of it never came");
        assert_eq!(harmless.take(b"c\xe6\x97"), "c");
        assert_eq!((harmless.end(), harmless.end()), ("\u{fffd}".to_owned(), String::new()));
    }
}
