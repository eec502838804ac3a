//! One frame of `top`: lines that fit the terminal, whatever there is to tell.

use serde_json::Value;

use super::super::paper::{Cell, Paper, Style, clean, width};
use super::super::show::{self, Show};
use super::super::view::{Column, column};
use super::super::views::findings::style_of;
use super::{Part, Snapshot};

/// Less is no terminal to work on.
const NARROWEST: usize = 20;
const LOWEST: usize = 12;
/// Lines that belong to no section: three at the top, one at the bottom.
const FIXED: usize = 4;
/// Title and empty line of a section.
const AROUND: usize = 2;

/// How much fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    columns: usize,
    lines: usize,
    colours: bool,
}

impl Size {
    pub(super) fn new((columns, lines): (usize, usize), colours: bool) -> Self {
        Self { columns: columns.max(NARROWEST), lines: lines.max(LOWEST), colours }
    }
}

/// A part of the frame.
struct Section {
    title: Cell,
    lines: Vec<String>,
}

const NODES: &[Column] = &[
    column("NODE", "/record/id", Show::Node),
    column("STATE", "/record/state", Show::State),
    column("SEEN", "/age_ms", Show::Span),
    column("STARTED", "/record/started_ms", Show::Ago),
    column("VERSION", "/record/version", Show::Text),
    column("PUBLIC", "/record/public_addr", Show::Text),
    column("OPTIONS", "/record/config_hash", Show::Text),
];
const RUNS: &[Column] = &[
    column("RUN", "/id", Show::Text),
    column("JOB", "/job", Show::Name),
    column("STATE", "/state", Show::State),
    column("NODE", "/node", Show::Node),
    column("STARTED", "/started_ms", Show::Ago),
    column("TRY", "/attempt", Show::Text),
];

/// Puts a frame together: as many lines as the terminal has, none wider than it is.
pub(super) fn frame(snapshot: &Snapshot, base: &str, size: Size, now_ms: i64) -> Vec<String> {
    let mut lines = head(snapshot, base, size, now_ms);
    let sections = [
        problems(&snapshot.problems, size, now_ms),
        nodes(snapshot, size, now_ms),
        runs(&snapshot.runs, size, now_ms),
    ];
    let room = size.lines - FIXED - sections.len() * AROUND;
    let needs = sections.each_ref().map(|section| section.lines.len());
    for (section, share) in sections.into_iter().zip(shares(needs, room)) {
        lines.push(painted(&[section.title], size, now_ms));
        lines.extend(shortened(section.lines, share));
        lines.push(String::new());
    }
    lines.truncate(size.lines - 1);
    lines.resize(size.lines - 1, String::new());
    lines.push(Style::Dim.paint("q ends, any other key refreshes", size.colours));
    lines.into_iter().map(|line| clipped(&line, size.columns)).collect()
}

/// Name, leader and scheduler.
fn head(snapshot: &Snapshot, base: &str, size: Size, now_ms: i64) -> Vec<String> {
    let member = |part: &Part, name: &str| {
        part.as_ref().map(|part| show::plain(&part[name])).unwrap_or_default()
    };
    let cluster = match member(&snapshot.about, "cluster") {
        alone if alone.is_empty() => "one node".to_owned(),
        cluster => format!("cluster {cluster}"),
    };
    let asked = member(&snapshot.about, "node");
    let asked = asked.split('#').next().unwrap_or_default();
    let first = [
        Cell::new("understudy", Style::Bold),
        Cell::plain(cluster),
        Cell::new(format!("{}Z", show::clock_time(now_ms)), Style::Plain),
        Cell::new(format!("{asked} at {base}"), Style::Dim),
    ];
    vec![
        painted(&first, size, now_ms),
        painted(&standing(snapshot, now_ms), size, now_ms),
        String::new(),
    ]
}

/// Who leads, and whether jobs start.
fn standing(snapshot: &Snapshot, now_ms: i64) -> Vec<Cell> {
    let mut cells = match &snapshot.leader {
        Ok(leader) => match leader["leaderNodeId"].as_str() {
            Some(name) => {
                let since = leader["since_ms"]
                    .as_i64()
                    .map(|at| format!("since {}", show::ago(at, now_ms)));
                vec![
                    Cell::plain("leader"),
                    Cell::new(name, Style::Good),
                    Cell::plain(since.unwrap_or_default()),
                ]
            }
            None => vec![Cell::new("nobody leads", Style::Bad)],
        },
        Err(why) => vec![Cell::plain("leader:"), Cell::new(why.as_str(), Style::Warn)],
    };
    if let Ok(leader) = &snapshot.leader
        && leader["frozen"] == true
    {
        cells.push(Cell::new("frozen", Style::Warn));
    }
    cells.push(Cell::new("|", Style::Dim));
    match &snapshot.scheduler {
        Ok(scheduler) if scheduler["paused"] == true => {
            let deed = Show::Deed.cell(&scheduler["switches"]["pause"], now_ms);
            cells.push(Cell::new(format!("all jobs paused {}", deed.text), Style::Warn));
        }
        Ok(scheduler) => {
            let runs = Show::Labels.cell(&scheduler["runs"], now_ms).text.replace(',', ", ");
            cells.push(Cell::plain(format!(
                "jobs: {}",
                if runs.is_empty() { "nothing under way" } else { &runs }
            )));
        }
        Err(why) => cells.push(Cell::new(format!("jobs: {why}"), Style::Warn)),
    }
    cells
}

fn problems(part: &Part, size: Size, now_ms: i64) -> Section {
    let answer = match part {
        Ok(answer) => answer,
        Err(why) => return missing("PROBLEMS", why, size),
    };
    let found = answer["problems"].as_array().map_or(&[][..], Vec::as_slice);
    let lines = found.iter().map(|problem| {
        let text = |name: &str| problem[name].as_str().unwrap_or_default();
        let severity = text("severity");
        let cells = [
            Cell::new(format!("{severity:<8}"), style_of(severity)),
            Cell::new(text("code"), Style::Bold),
            Cell::plain(text("node")),
            Cell::plain(text("text").replace('\n', " ")),
        ];
        painted(&cells, size, now_ms)
    });
    let style = if found.is_empty() { Style::Good } else { Style::Bold };
    Section { title: Cell::new(format!("PROBLEMS {}", found.len()), style), lines: lines.collect() }
}

fn nodes(snapshot: &Snapshot, size: Size, now_ms: i64) -> Section {
    let answer = match &snapshot.nodes {
        Ok(answer) => answer,
        Err(why) => return missing("NODES", why, size),
    };
    let list = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let leader = snapshot.leader.as_ref().ok().and_then(|leader| leader["leaderNodeId"].as_str());
    let silent = list.iter().filter(|node| node["live"] == false).count();
    let mut title = format!("NODES {}", list.len());
    if silent > 0 {
        title.push_str(&format!(", {silent} silent"));
    }
    let marks = |node: &Value| {
        let name = Show::Node.cell(&node["record"]["id"], now_ms).text;
        match (node["live"] == false, leader == Some(name.as_str())) {
            (true, _) => Cell::new("silent", Style::Bad),
            (false, true) => Cell::new("leads", Style::Good),
            (false, false) => Cell::default(),
        }
    };
    let lines = table(list, NODES, (1, "", &marks), (size, now_ms));
    Section { title: Cell::new(title, Style::Bold), lines }
}

fn runs(part: &Part, size: Size, now_ms: i64) -> Section {
    let answer = match part {
        Ok(answer) => answer,
        Err(why) => return missing("RUNS", why, size),
    };
    let list = answer["runs"].as_array().map_or(&[][..], Vec::as_slice);
    let more = if answer["next"].is_null() { "" } else { " or more" };
    let lines = table(list, RUNS, (RUNS.len(), "PROGRESS", &progress), (size, now_ms));
    Section { title: Cell::new(format!("RUNS {}{more}", list.len()), Style::Bold), lines }
}

/// The stage a run is at.
fn progress(run: &Value) -> Cell {
    let Some(stage) = run["progress"]["stages"].as_array().and_then(|stages| stages.last()) else {
        return Cell::default();
    };
    let name = stage["name"].as_str().unwrap_or_default();
    let done = stage["done"].as_u64().unwrap_or_default();
    Cell::plain(match stage["total"].as_u64() {
        Some(total) => format!("{name} {done}/{total}"),
        None => format!("{name} {done}"),
    })
}

/// A column whose text is worked out: where it stands, its head, its text.
type Made<'a> = (usize, &'a str, &'a dyn Fn(&Value) -> Cell);

fn table(
    rows: &[Value],
    columns: &[Column],
    (place, head, make): Made<'_>,
    (size, now_ms): (Size, i64),
) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let cells = rows.iter().map(|row| {
        let cell = |column: &Column| {
            let value = row.pointer(column.at).filter(|value| !value.is_null());
            value.map_or_else(Cell::default, |value| column.show.cell(value, now_ms))
        };
        let mut cells: Vec<Cell> = columns.iter().map(cell).collect();
        cells.insert(place, make(row));
        cells
    });
    let cells: Vec<Vec<Cell>> = cells.collect();
    let mut heads: Vec<&str> = columns.iter().map(|column| column.title).collect();
    heads.insert(place, head);
    let mut text = String::new();
    Paper::new(&mut text, now_ms, size.colours, None).table(&heads, &cells);
    text.lines().map(str::to_owned).collect()
}

fn missing(title: &str, why: &str, size: Size) -> Section {
    let lines = vec![Style::Warn.paint(&clean(why), size.colours)];
    Section { title: Cell::new(title, Style::Bold), lines }
}

fn painted(cells: &[Cell], size: Size, now_ms: i64) -> String {
    let mut text = String::new();
    Paper::new(&mut text, now_ms, size.colours, None).cells(cells);
    text.trim_end_matches('\n').to_owned()
}

/// Gives each section what it needs if there is room, else each a fair part, and what is left to who needs more.
fn shares(needs: [usize; 3], room: usize) -> [usize; 3] {
    let mut shares = needs.map(|need| need.min(room / needs.len()));
    let mut left = room.saturating_sub(shares.iter().sum());
    for (share, need) in shares.iter_mut().zip(needs) {
        let more = (need - *share).min(left);
        *share += more;
        left -= more;
    }
    shares
}

/// The first lines; the last of them tells how many are missing.
fn shortened(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        let more = lines.len() - most.saturating_sub(1);
        lines.truncate(most.saturating_sub(1));
        if most > 0 {
            lines.push(format!("... and {more} more"));
        }
    }
    lines
}

/// Cuts a line to the width of the terminal; colours take no place.
fn clipped(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let mut used = 0;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            kept.push(character);
            // Only colours are in a line, and they end with an m.
            for part in characters.by_ref() {
                kept.push(part);
                if part == 'm' {
                    break;
                }
            }
            continue;
        }
        used += width(character.encode_utf8(&mut [0; 4]));
        if used > columns {
            kept.push_str(if line.contains('\x1b') { "\x1b[0m" } else { "" });
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests;
