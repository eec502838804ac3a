//! Lines of text for people: aligned, as wide as the terminal, coloured when a person looks on.
//!
//! What comes from the cluster is cleaned here: a name or a line of a log cannot move the cursor of whoever reads it.

/// What a text stands out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

/// A piece of text with its style.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

/// Lines that are put together for one answer.
#[derive(Debug)]
pub(super) struct Paper<'a> {
    text: &'a mut String,
    colours: bool,
    width: Option<usize>,
    now_ms: i64,
    /// Whether the last line is a title.
    below_title: bool,
}

/// Between two columns.
const GAP: usize = 2;
/// A last column is never cut to less than this.
const NARROWEST: usize = 12;

impl Cell {
    pub(super) fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Style::Plain)
    }
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }

    /// Puts a text that is clean into this style.
    pub(super) fn paint(self, text: &str, colours: bool) -> String {
        if !colours || self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", self.code())
    }
}

impl<'a> Paper<'a> {
    /// Begins a page; `width` is that of the terminal, `None` when nothing needs to be cut.
    pub(super) fn new(
        text: &'a mut String,
        now_ms: i64,
        colours: bool,
        width: Option<usize>,
    ) -> Self {
        Self { text, colours, width, now_ms, below_title: false }
    }

    #[cfg(test)]
    pub(super) fn plain(text: &'a mut String, now_ms: i64) -> Self {
        Self::new(text, now_ms, false, None)
    }

    /// The time by which "3 s ago" is told.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// A line; as long as it is.
    pub(super) fn line(&mut self, text: &str) {
        self.put(&clean(text));
    }

    /// A line of several pieces, with a blank between them.
    pub(super) fn cells(&mut self, cells: &[Cell]) {
        let painted = cells.iter().filter(|cell| !cell.text.is_empty());
        let painted: Vec<String> =
            painted.map(|cell| cell.style.paint(&clean(&cell.text), self.colours)).collect();
        self.put(&painted.join(" "));
    }

    /// A title, with an empty line before it unless it is the first; what follows belongs to it.
    pub(super) fn heading(&mut self, title: &str) {
        self.space();
        self.cells(&[Cell::new(title, Style::Bold)]);
        self.below_title = true;
    }

    /// An empty line, unless nothing or a title stands above it.
    pub(super) fn space(&mut self) {
        if !self.below_title && !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Writes a line that is clean.
    fn put(&mut self, line: &str) {
        self.text.push_str(line.trim_end_matches(' '));
        self.text.push('\n');
        self.below_title = false;
    }

    /// Labels with their values, the values below each other; a value of several lines stays in its column.
    pub(super) fn fields(&mut self, rows: &[(String, Cell)]) {
        if rows.is_empty() {
            return;
        }
        self.space();
        let labels = rows.iter().map(|(label, _)| width(label)).max().unwrap_or_default();
        for (label, cell) in rows {
            let label = padded(&clean(label), labels + GAP);
            for (number, line) in cell.text.lines().enumerate() {
                let value = cell.style.paint(&clean(line), self.colours);
                let label = if number == 0 { label.as_str() } else { "" };
                let label = Style::Dim.paint(&padded(label, labels + GAP), self.colours);
                self.put(&format!("{label}{value}"));
            }
        }
    }

    /// A table. Where the terminal ends the last column is cut, and those before it that leave it no room are left out.
    pub(super) fn table(&mut self, heads: &[&str], rows: &[Vec<Cell>]) {
        self.space();
        let heads = heads.iter().map(|head| Cell::new(*head, Style::Bold)).collect();
        let rows = rows.iter().map(|row| row.iter().map(one_line).collect());
        let mut rows: Vec<Vec<Cell>> = std::iter::once(heads).chain(rows).collect();
        let mut widths = vec![0; rows[0].len()];
        for row in &rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(width(&cell.text));
            }
        }
        while let Some(place) = self.too_much(&widths) {
            widths.remove(place);
            rows.iter_mut().for_each(|row| drop(row.remove(place)));
        }
        rows.iter().for_each(|row| self.row(row, &widths));
    }

    /// The column that must go for the last one to have room.
    fn too_much(&self, widths: &[usize]) -> Option<usize> {
        let (last, before) = widths.split_last()?;
        let used: usize = before.iter().map(|column| column + GAP).sum();
        let is_too_wide = self.width.is_some_and(|all| used + NARROWEST.min(*last) > all);
        (is_too_wide && before.len() > 1).then(|| before.len() - 1)
    }

    fn row(&mut self, cells: &[Cell], widths: &[usize]) {
        let Some((last, before)) = cells.split_last() else { return };
        let mut used = 0;
        let mut line = String::new();
        for (cell, column) in before.iter().zip(widths) {
            line.push_str(&cell.style.paint(&cell.text, self.colours));
            line.push_str(&" ".repeat(column.saturating_sub(width(&cell.text)) + GAP));
            used += column + GAP;
        }
        let rest = self.width.map(|all| all.saturating_sub(used).max(NARROWEST));
        let text = rest.map_or_else(|| last.text.clone(), |rest| cut(&last.text, rest));
        line.push_str(&last.style.paint(&text, self.colours));
        self.put(&line);
    }

    /// A paragraph, each line of it behind so many blanks, broken where the terminal ends.
    pub(super) fn paragraph(&mut self, indent: usize, cell: &Cell) {
        let room = self.width.map(|all| all.saturating_sub(indent).max(NARROWEST * 2));
        for line in cell.text.lines() {
            for piece in wrapped(&clean(line), room) {
                let piece = cell.style.paint(&piece, self.colours);
                self.put(&format!("{}{piece}", " ".repeat(indent)));
            }
        }
    }
}

/// What stands in a table has one line.
fn one_line(cell: &Cell) -> Cell {
    let joined: Vec<&str> = cell.text.lines().map(str::trim).collect();
    Cell { text: clean(&joined.join(" ")), style: cell.style }
}

/// Makes a text harmless: control characters and those that turn the direction of writing are shown as what they are.
pub(super) fn clean(text: &str) -> String {
    if text.chars().all(|character| !is_harmful(character)) {
        return text.to_owned();
    }
    let mut cleaned = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\t' => cleaned.push_str("    "),
            character if is_harmful(character) => cleaned.extend(character.escape_unicode()),
            character => cleaned.push(character),
        }
    }
    cleaned
}

/// Whether a character could speak to a terminal: move its cursor, or turn the direction of writing.
pub(super) fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
}

/// How many places a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(places).sum()
}

fn places(character: char) -> usize {
    match character {
        '\u{0300}'..='\u{036f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Cuts a text to so many places; `…` says that something is missing.
pub(super) fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += places(character);
        if used > most {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

/// Fills a text up with blanks.
pub(super) fn padded(text: &str, places: usize) -> String {
    format!("{text}{}", " ".repeat(places.saturating_sub(width(text))))
}

fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the beginning");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_is_cut_at_the_edge() {
        let rows = vec![
            vec![
                Cell::plain("node-a"),
                Cell::plain("ready"),
                Cell::plain("a long story of this node"),
            ],
            vec![Cell::plain("日本"), Cell::new("gone", Style::Bad), Cell::plain("two\nlines")],
        ];
        let mut text = String::new();
        Paper::new(&mut text, 0, false, Some(32)).table(&["NAME", "STATE", "TEXT"], &rows);
        let expected = "\
NAME    STATE  TEXT
node-a  ready  a long story of …
日本    gone   two lines
";
        assert_eq!(text, expected);
        let mut text = String::new();
        Paper::new(&mut text, 0, true, None).table(&["NAME"], &[rows[1][..1].to_vec()]);
        assert_eq!(text, "\x1b[1mNAME\x1b[0m\n日本\n");
    }

    #[test]
    fn columns_that_leave_no_room_are_left_out() {
        let row: Vec<Cell> =
            ["node-a", "ready", "10.0.0.1:8080", "a story"].map(Cell::plain).to_vec();
        let mut text = String::new();
        let heads = ["NAME", "STATE", "ADDRESS", "TEXT"];
        Paper::new(&mut text, 0, false, Some(30)).table(&heads, std::slice::from_ref(&row));
        assert_eq!(text, "NAME    STATE  TEXT\nnode-a  ready  a story\n");
        let mut text = String::new();
        Paper::new(&mut text, 0, false, Some(5)).table(&heads, &[row]);
        assert_eq!(text, "NAME    TEXT\nnode-a  a story\n", "the first and the last stay");
    }

    #[test]
    fn a_text_from_the_cluster_cannot_speak_to_the_terminal() {
        let bad = "a\x1b]0;title\x07b\r\u{202e}c";
        assert_eq!(clean(bad), "a\\u{1b}]0;title\\u{7}b\\u{d}\\u{202e}c");
        let mut text = String::new();
        let mut paper = Paper::plain(&mut text, 0);
        paper.line(bad);
        paper.fields(&[("x\x1b".to_owned(), Cell::plain(bad))]);
        paper.table(&["A"], &[vec![Cell::plain(bad)]]);
        paper.paragraph(2, &Cell::plain(bad));
        paper.cells(&[Cell::plain(bad)]);
        assert!(!text.contains(['\x1b', '\x07', '\r', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn paragraphs_are_broken_between_words() {
        let mut text = String::new();
        let mut paper = Paper::new(&mut text, 0, false, Some(30));
        paper.paragraph(4, &Cell::plain("one two three four five six seven\nnew line"));
        assert_eq!(text, "    one two three four five\n    six seven\n    new line\n");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(padded("日本", 6), "日本  ");
    }
}
