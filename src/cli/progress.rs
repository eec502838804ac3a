//! One line that tells how far something is. It is written over and over, and gone at the end; nobody sees it in a file.

use super::paper::{clean, cut, padded};
use super::terminal::Terminal;

/// Places of the bar itself.
const BAR: usize = 24;
/// Widest line when the terminal does not say.
const WIDEST: usize = 79;

/// A line that is being written over.
#[derive(Debug, Default)]
pub(super) struct Progress {
    is_shown: bool,
}

impl Progress {
    /// Writes the line; `done` and `of` make the bar, if that is known.
    pub(super) fn tell(&mut self, share: Option<(u64, u64)>, text: &str, terminal: &mut Terminal) {
        if !terminal.around.is_watched {
            return;
        }
        let width = terminal.around.size.map_or(WIDEST, |(columns, _)| columns.saturating_sub(1));
        terminal.overwrite(&format!("\r{}\x1b[K", line(share, text, width)));
        self.is_shown = true;
    }

    /// Takes the line away.
    pub(super) fn end(&mut self, terminal: &mut Terminal) {
        if std::mem::take(&mut self.is_shown) {
            terminal.overwrite("\r\x1b[K");
        }
    }
}

fn line(share: Option<(u64, u64)>, text: &str, width: usize) -> String {
    let text = clean(text);
    let Some((done, of)) = share.filter(|(_, of)| *of > 0) else { return cut(&text, width) };
    let done = done.min(of);
    let full = usize::try_from(u128::from(done) * BAR as u128 / u128::from(of)).unwrap_or(BAR);
    let percent = u128::from(done) * 100 / u128::from(of);
    let bar = padded(&"#".repeat(full), BAR).replace(' ', "-");
    cut(&format!("[{bar}] {percent:>3} %  {text}"), width)
}

#[cfg(test)]
mod tests {
    use super::super::terminal::Surroundings;
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_is_done() {
        assert_eq!(line(Some((1, 4)), "days", 60), "[######------------------]  25 %  days");
        assert_eq!(line(Some((9, 4)), "x", 60), "[########################] 100 %  x");
        assert_eq!(line(None, "waiting\n", 60), "waiting\\u{a}");
        assert_eq!(line(Some((0, 0)), "waiting", 5), "wait…");
        assert_eq!(line(Some((1, 2)), "a long text", 36), "[############------------]  50 %  a…");
    }

    #[test]
    fn only_people_see_it_and_nothing_is_left_of_it() {
        let (mut terminal, _, seen) = Terminal::for_test(Surroundings::for_test(), "");
        let mut progress = Progress::default();
        progress.tell(None, "x", &mut terminal);
        progress.end(&mut terminal);
        assert_eq!(seen.text(), "");
        let watched = Surroundings { is_watched: true, ..Surroundings::for_test() };
        let (mut terminal, _, seen) = Terminal::for_test(watched, "");
        progress.tell(None, "x", &mut terminal);
        progress.end(&mut terminal);
        progress.end(&mut terminal);
        assert_eq!(seen.text(), "\rx\x1b[K\r\x1b[K");
    }
}
