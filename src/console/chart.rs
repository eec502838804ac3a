//! Charts as SVG in the page: shapes that may be stretched to whatever room there is, with their words in HTML beside
//! them. No chart says by colour alone what it says.

use maud::{Markup, html};

/// Width and height of every chart in its own measure; a browser stretches it.
const WIDTH: i64 = 1_000;
const HEIGHT: i64 = 100;

/// One bar.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    /// How high it is.
    pub(super) value: i64,
    /// Its colour.
    pub(super) tone: &'static str,
    /// Whether its whole column is marked, so that it is seen however short it is.
    pub(super) marked: bool,
    /// What it is, for whoever points at it.
    pub(super) title: String,
}

/// Bars beside each other, the oldest first, with room for so many.
pub(super) fn bars(label: &str, bars: &[Bar], room: usize) -> Markup {
    let highest = highest(bars);
    let step = WIDTH / i64::try_from(room.max(bars.len()).max(1)).unwrap_or(WIDTH);
    // The latest stands at the right edge.
    let free = WIDTH - step * i64::try_from(bars.len()).unwrap_or_default();
    let placed = bars.iter().zip(0..).map(|(bar, place)| {
        let height = (bar.value.min(highest) * (HEIGHT - 4) / highest).max(3);
        (bar, free + place * step, height)
    });
    html! {
        svg.chart.bars role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" {
            @for (bar, x, height) in placed {
                g class=(bar.tone) {
                    title { (bar.title) }
                    rect.back.marked[bar.marked] x=(x) y="0" width=(step) height=(HEIGHT) {}
                    rect.bar x=(x + step / 10) y=(HEIGHT - height) width=(step - step / 5) height=(height) {}
                }
            }
        }
    }
}

/// The value that is as high as the chart: the highest, unless it is so far above the others that they could not be told
/// apart beside it.
pub(super) fn highest(bars: &[Bar]) -> i64 {
    let mut values: Vec<i64> = bars.iter().map(|bar| bar.value).collect();
    values.sort_unstable();
    let middle = values.get(values.len() / 2).copied().unwrap_or_default();
    let far = middle.saturating_mul(4);
    values.last().copied().unwrap_or_default().min(far.max(1)).max(1)
}

/// A stretch of time on a lane.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    /// From when.
    pub(super) from: i64,
    /// To when.
    pub(super) to: i64,
    /// Its colour.
    pub(super) tone: &'static str,
    /// What it is.
    pub(super) title: String,
}

/// A lane of time between two moments.
pub(super) fn lane(label: &str, (from, to): (i64, i64), stretches: &[Stretch]) -> Markup {
    let place = |at: i64| place(at, from, to);
    html! {
        svg.chart.lane role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" {
            rect.track x="0" y="4.4" width=(WIDTH) height="1.2" {}
            @for stretch in stretches {
                rect class=(stretch.tone) x=(place(stretch.from)) y="0" height="10" width=((place(stretch.to) - place(stretch.from)).max(4)) {
                    title { (stretch.title) }
                }
            }
        }
    }
}

/// Where a moment is between two others.
fn place(at: i64, from: i64, to: i64) -> i64 {
    let (whole, part) = ((to - from).max(1), (at.clamp(from, to.max(from)) - from));
    i64::try_from(i128::from(part) * i128::from(WIDTH) / i128::from(whole)).unwrap_or_default()
}

/// A share of a whole.
#[derive(Debug, Clone)]
pub(super) struct Share {
    /// How much.
    pub(super) value: i64,
    /// Its colour.
    pub(super) tone: &'static str,
    /// What it is.
    pub(super) title: String,
}

/// Shares of a whole in one bar.
pub(super) fn shares(label: &str, shares: &[Share]) -> Markup {
    let whole: i64 = shares.iter().map(|share| share.value).sum();
    let mut begun = 0;
    let placed: Vec<_> = shares
        .iter()
        .filter(|share| share.value > 0)
        .map(|share| {
            let from = begun;
            begun += share.value;
            (share, place(from, 0, whole), place(begun, 0, whole))
        })
        .collect();
    html! {
        svg.chart.shares role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" {
            rect.track x="0" y="0" width=(WIDTH) height="10" {}
            @for (share, from, to) in placed {
                rect class=(share.tone) x=(from) y="0" width=((to - from - 3).max(3)) height="10" {
                    title { (share.title) }
                }
            }
        }
    }
}

/// How much of the most something is, below the number itself.
pub(super) fn level(value: i64, most: i64, tone: &str) -> Markup {
    html! {
        svg.chart.level aria-hidden="true" viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" {
            rect.track x="0" y="0" width=(WIDTH) height="10" {}
            @if value > 0 {
                rect class=(tone) x="0" y="0" width=(place(value, 0, most.max(value)).max(6)) height="10" {}
            }
        }
    }
}

/// A line over time: moments and values, the oldest first. Values are thousandths of what is told.
pub(super) fn line(label: &str, (from, to): (i64, i64), points: &[(i64, i64)]) -> Markup {
    let highest = points.iter().map(|(_, value)| *value).max().unwrap_or_default().max(1);
    let placed: Vec<(i64, i64)> = points
        .iter()
        .map(|(at, value)| (place(*at, from, to), HEIGHT - 3 - value * (HEIGHT - 8) / highest))
        .collect();
    let path = |placed: &[(i64, i64)]| {
        placed.iter().map(|(x, y)| format!("{x} {y}")).collect::<Vec<_>>().join("L")
    };
    html! {
        svg.chart.line role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" {
            @for part in 1..4 { path.grid d={ "M0 " (part * HEIGHT / 4) "H" (WIDTH) } {} }
            @if let (Some((first, _)), Some((last, _)), true) = (placed.first(), placed.last(), placed.len() > 1) {
                path.area d={ "M" (first) " " (HEIGHT) "L" (path(&placed)) "L" (last) " " (HEIGHT) "Z" } {}
                path.stroke d={ "M" (path(&placed)) } {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_placed_between_the_ends_and_never_outside() {
        assert_eq!(place(150, 100, 200), 500);
        assert_eq!((place(0, 100, 200), place(999, 100, 200)), (0, 1_000));
        assert_eq!(place(5, 5, 5), 0);
        assert_eq!(place(i64::MAX, 0, i64::MAX), 1_000);
    }

    #[test]
    fn a_level_is_a_part_of_the_most_and_nothing_is_no_bar() {
        assert!(!level(0, 10, "go").0.contains("class=\"go\""));
        let whole = format!("width=\"{WIDTH}\"");
        assert_eq!(level(10, 10, "go").0.matches(&whole).count(), 2, "the track, and as much");
        assert_eq!(level(5, 10, "go").0.matches(&whole).count(), 1);
        assert_eq!(level(5, 0, "go").0.matches(&whole).count(), 2);
    }

    #[test]
    fn what_bars_say_is_escaped() {
        let bar = Bar { value: 3, tone: "ok", marked: false, title: "<script>".to_owned() };
        let drawn = bars("a \"chart\"", &[bar], 10).0;
        assert!(
            drawn.contains("&lt;script&gt;") && drawn.contains("a &quot;chart&quot;"),
            "{drawn}"
        );
    }

    #[test]
    fn one_bar_that_is_far_above_does_not_hide_the_others() {
        let of = |values: &[i64]| {
            let bar = |value: &i64| Bar {
                value: *value,
                tone: "ok",
                marked: false,
                title: String::new(),
            };
            highest(&values.iter().map(bar).collect::<Vec<_>>())
        };
        assert_eq!(of(&[10, 20, 30]), 30);
        assert_eq!(of(&[10, 20, 30, 9_000]), 120);
        assert_eq!((of(&[]), of(&[0])), (1, 1));
    }

    #[test]
    fn nothing_is_drawn_without_values() {
        assert!(!line("x", (0, 10), &[]).0.contains("area"));
        assert!(!line("x", (0, 10), &[(1, 1)]).0.contains("area"));
        assert!(shares("x", &[]).0.contains("track"));
        assert!(bars("x", &[], 0).0.contains("<svg"));
    }
}
