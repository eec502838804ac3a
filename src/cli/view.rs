//! How an answer of the API becomes something to read: fields, tables, and what fits neither.
//!
//! Views are data and forgiving: a member that an older or newer node does not send leaves a gap, never an error. What is
//! shown of an answer is chosen here; nothing of it is changed.

use serde_json::{Map, Value};

use super::paper::{Cell, Paper, Style};
use super::show::{self, Show};

/// How an answer is shown to people.
#[derive(Debug, Clone, Copy)]
pub(super) enum View {
    /// All members, by their names.
    Object,
    /// These parts, one below the other.
    Parts(&'static [Part]),
    /// What a function makes of it.
    Custom(fn(&Value, &mut Paper<'_>)),
    /// Byte by byte: it is meant for other programs.
    AsItIs,
    /// There is no answer; this is said instead.
    Nothing(&'static str),
    /// The members of the answer, or this when there is none.
    NothingOr(&'static str),
}

/// A part of a view.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Label and value, one line each; what is not there is left out.
    Fields(&'static [Column]),
    /// A list as a table.
    Table {
        /// What stands above it; empty for nothing.
        title: &'static str,
        /// Where the list is, as a JSON pointer.
        list: &'static str,
        columns: &'static [Column],
        /// What is said when it is empty; empty when that need not be said.
        empty: &'static str,
    },
    /// A text, with its lines.
    Text { title: &'static str, at: &'static str },
}

/// A value of an answer, and how it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// The head of the column, or the label.
    pub(super) title: &'static str,
    /// Where the value is, as a JSON pointer.
    pub(super) at: &'static str,
    pub(super) show: Show,
}

/// A column, or a labelled field.
pub(super) const fn column(title: &'static str, at: &'static str, show: Show) -> Column {
    Column { title, at, show }
}

/// A table without a title.
pub(super) const fn table(
    list: &'static str,
    columns: &'static [Column],
    empty: &'static str,
) -> Part {
    Part::Table { title: "", list, columns, empty }
}

/// A table below something else: left out when it is empty.
pub(super) const fn titled(
    title: &'static str,
    list: &'static str,
    columns: &'static [Column],
) -> Part {
    Part::Table { title, list, columns, empty: "" }
}

impl View {
    /// Puts an answer onto paper.
    pub(super) fn render(self, answer: &Value, paper: &mut Paper<'_>) {
        match self {
            Self::Object | Self::NothingOr(_) => object(answer, paper),
            Self::Parts(parts) => parts.iter().for_each(|part| part.render(answer, paper)),
            Self::Custom(render) => render(answer, paper),
            Self::AsItIs => paper.line(&answer.to_string()),
            Self::Nothing(said) => paper.line(said),
        }
    }
}

impl Part {
    fn render(self, answer: &Value, paper: &mut Paper<'_>) {
        match self {
            Self::Fields(fields) => {
                let rows = fields.iter().filter_map(|field| {
                    let value = answer.pointer(field.at).filter(|value| !value.is_null())?;
                    Some((field.title.to_owned(), field.show.cell(value, paper.now_ms())))
                });
                let rows: Vec<_> = rows.filter(|(_, cell)| !cell.text.is_empty()).collect();
                paper.fields(&rows);
            }
            Self::Table { title, list, columns, empty } => {
                let rows = answer.pointer(list).and_then(Value::as_array);
                render_table(title, rows.map_or(&[], Vec::as_slice), columns, paper);
                if rows.is_none_or(Vec::is_empty) && !empty.is_empty() {
                    paper.line(empty);
                }
            }
            Self::Text { title, at } => {
                let text = answer.pointer(at).and_then(Value::as_str).unwrap_or_default();
                if !text.trim().is_empty() {
                    paper.heading(title);
                    text.lines().for_each(|line| paper.line(line));
                }
            }
        }
    }
}

fn render_table(title: &str, rows: &[Value], columns: &[Column], paper: &mut Paper<'_>) {
    if rows.is_empty() {
        return;
    }
    if !title.is_empty() {
        paper.heading(title);
    }
    let now_ms = paper.now_ms();
    let cells = rows.iter().map(|row| {
        let cell = |column: &Column| match row.pointer(column.at) {
            None | Some(Value::Null) => Cell::new("-", Style::Dim),
            Some(value) => column.show.cell(value, now_ms),
        };
        columns.iter().map(cell).collect()
    });
    let cells: Vec<Vec<Cell>> = cells.collect();
    // A column that says nothing of any row takes place from those that do.
    let tells = |place: usize| {
        cells
            .iter()
            .any(|row| row.get(place).is_some_and(|cell| !matches!(cell.text.as_str(), "" | "-")))
    };
    let kept: Vec<usize> =
        (0..columns.len()).filter(|place| *place == 0 || tells(*place)).collect();
    let heads: Vec<&str> = kept.iter().map(|place| columns[*place].title).collect();
    let of_row = |row: Vec<Cell>| kept.iter().map(|place| row[*place].clone()).collect();
    let cells: Vec<Vec<Cell>> = cells.iter().cloned().map(of_row).collect();
    paper.table(&heads, &cells);
}

/// Shows all members of an object by their names: what is simple first, then lists as tables.
pub(super) fn object(answer: &Value, paper: &mut Paper<'_>) {
    let Some(members) = answer.as_object() else { return paper.line(&show::plain(answer)) };
    let now_ms = paper.now_ms();
    let simple: Vec<(String, Cell)> = shown(members)
        .filter(|(_, value)| !is_list_of_objects(value))
        .map(|(name, value)| (label(name), show::guessed(name, value, now_ms)))
        .filter(|(_, cell)| !cell.text.is_empty())
        .collect();
    paper.fields(&simple);
    for (name, value) in shown(members).filter(|(_, value)| is_list_of_objects(value)) {
        paper.heading(&label(name));
        objects(value.as_array().map_or(&[], Vec::as_slice), paper);
    }
}

/// Members that say something of their own: the same time in another form does not, and neither does nothing.
fn shown(members: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    members.iter().map(|(name, value)| (name.as_str(), value)).filter(|(name, value)| {
        let twin = name.strip_suffix("_at").map(|name| format!("{name}_ms"));
        !value.is_null() && twin.is_none_or(|twin| !members.contains_key(&twin))
    })
}

fn is_list_of_objects(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.first().is_some_and(Value::is_object))
}

/// A table of objects whose members are not known here.
fn objects(rows: &[Value], paper: &mut Paper<'_>) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().filter_map(Value::as_object).flat_map(shown) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let now_ms = paper.now_ms();
    let cells = rows.iter().map(|row| {
        let cell = |name: &&str| {
            row.get(*name).map_or_else(Cell::default, |value| show::guessed(name, value, now_ms))
        };
        names.iter().map(cell).collect()
    });
    let heads: Vec<String> = names.iter().map(|name| label(name).to_uppercase()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    paper.table(&heads, &cells.collect::<Vec<_>>());
}

/// `since_ms` is `since` to people.
fn label(name: &str) -> String {
    let name = name.strip_suffix("_ms").or_else(|| name.strip_suffix("_s")).unwrap_or(name);
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn rendered(view: View, answer: &Value) -> String {
        let mut text = String::new();
        view.render(answer, &mut Paper::plain(&mut text, NOW));
        text
    }

    #[test]
    fn an_object_shows_its_members_by_name_times_as_people_say_them() {
        let answer = json!({
            "node": "a", "drained": { "by": "operator", "why": "new kernel", "at_ms": NOW - 3_000 },
            "since_ms": NOW - 7_200_000, "since_at": "2023-11-14T20:13:20Z", "gap_ms": 1_500,
            "nothing": null, "names": ["x", "y"],
            "lives": [{ "n": 1, "ok": true }, { "n": 22 }],
        });
        let expected = "\
drained  at: 3 s ago, by: operator, why: new kernel
gap      1.5 s
names    x, y
node     a
since    2023-11-14 20:13:20Z (2 h ago)

lives
N   OK
1   yes
22
";
        assert_eq!(rendered(View::Object, &answer), expected);
        assert_eq!(rendered(View::Object, &json!("done")), "done\n");
    }

    #[test]
    fn what_is_missing_leaves_a_gap() {
        const PARTS: &[Part] = &[
            Part::Fields(&[
                column("name", "/name", Show::Text),
                column("since", "/since", Show::Ago),
            ]),
            table(
                "/list",
                &[column("A", "/a", Show::Text), column("B", "/b/c", Show::Text)],
                "nothing is there",
            ),
        ];
        let view = View::Parts(PARTS);
        assert_eq!(rendered(view, &json!({})), "nothing is there\n");
        let answer =
            json!({ "name": "n", "list": [{ "a": 1, "b": { "c": "x" } }, { "a": "two" }] });
        assert_eq!(rendered(view, &answer), "name  n\n\nA    B\n1    x\ntwo  -\n");
    }
}
