//! Latencies as pictures: bars for a terminal, an SVG file for a browser. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::histogram::{Histogram, as_float};
use crate::duration;

/// Bars of one histogram in a terminal, and characters of the longest.
const BARS: usize = 16;
const BAR_CHARS: f64 = 48.0;

/// Size of the file's picture, and of the part where the curves are.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 880.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 400.0;
/// Steps of one curve.
const STEPS: usize = 100;
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// One measurement to be drawn.
#[derive(Debug)]
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) latency: &'a Histogram,
    pub(crate) per_second: f64,
}

/// Lines for a terminal: how many calls took how long.
pub(crate) fn bars(latency: &Histogram) -> String {
    let bins = latency.bins(latency.min(), latency.max(), BARS);
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for bin in bins {
        let share = as_float(bin.count) / as_float(latency.total().max(1)) * 100.0;
        let length = (as_float(bin.count) / as_float(most) * BAR_CHARS).ceil();
        let bar: String = (0..48)
            .take_while(|place| f64::from(*place) < length)
            .map(|_| '#')
            .collect();
        let to = show(bin.to);
        let _ = writeln!(text, "  < {to:>8}  {share:>6.2} %  {bar}");
    }
    text
}

/// The file: one curve per measurement over the same logarithmic scale, with lines at p50 and p99.
pub(crate) fn svg(title: &str, curves: &[Curve<'_>]) -> String {
    let counted = curves.iter().filter(|curve| curve.latency.total() > 0);
    let from = counted.clone().map(|curve| curve.latency.min()).min();
    let to = counted.map(|curve| curve.latency.max()).max();
    let scale = Scale::new(from.unwrap_or(1), to.unwrap_or(10));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\">{}</text>\n",
        escaped(title)
    );
    axis(&mut text, &scale);
    let highest = curves.iter().map(|curve| scale.highest(curve.latency));
    let highest = highest.fold(f64::MIN_POSITIVE, f64::max);
    for (index, (curve, colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        draw(&mut text, &scale, curve, highest, colour);
        let y = TOP + 16.0 * (as_float(index as u64) + 1.0);
        legend(&mut text, curve, y, colour);
    }
    text.push_str("</svg>\n");
    text
}

struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn new(from: u64, to: u64) -> Self {
        Self {
            from: from.max(1),
            to: to.max(from.max(1) + 1),
        }
    }

    fn x(&self, nanos: f64) -> f64 {
        let (from, to) = (as_float(self.from), as_float(self.to));
        let share = (nanos.max(from) / from).ln() / (to / from).ln();
        LEFT + share.min(1.0) * (RIGHT - LEFT)
    }

    /// The largest share that a step of the curve has.
    fn highest(&self, latency: &Histogram) -> f64 {
        let bins = latency.bins(self.from, self.to, STEPS);
        let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0);
        as_float(most) / as_float(latency.total().max(1))
    }
}

/// Times at 1, 2 and 5 of each power of ten.
fn axis(text: &mut String, scale: &Scale) {
    let mut power = 1_u64;
    while power <= scale.to {
        for tick in [1, 2, 5].map(|digit| power.saturating_mul(digit)) {
            if (scale.from..=scale.to).contains(&tick) {
                let x = scale.x(as_float(tick));
                let label = show(as_float(tick));
                let _ = write!(
                    text,
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"#dddddd\"/>\n\
                     <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n",
                    BOTTOM + 18.0
                );
            }
        }
        power = power.saturating_mul(10);
    }
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\">time of a call (logarithmic); height: share of calls; lines: p50 and p99 (dashed)</text>",
        BOTTOM + 44.0
    );
}

fn draw(text: &mut String, scale: &Scale, curve: &Curve<'_>, highest: f64, colour: &str) {
    if curve.latency.total() == 0 {
        return;
    }
    let mut path = format!("M {LEFT} {BOTTOM}");
    for bin in curve.latency.bins(scale.from, scale.to, STEPS) {
        let share = as_float(bin.count) / as_float(curve.latency.total());
        let y = BOTTOM - share / highest * (BOTTOM - TOP);
        let (x, to) = (scale.x(bin.from), scale.x(bin.to));
        let _ = write!(path, " L {x:.1} {y:.1} L {to:.1} {y:.1}");
    }
    let _ = writeln!(
        text,
        "<path d=\"{path} L {RIGHT} {BOTTOM} Z\" fill=\"{colour}\" fill-opacity=\"0.25\" stroke=\"{colour}\"/>"
    );
    for (percent, dashes) in [(50.0, "none"), (99.0, "4 4")] {
        let x = scale.x(as_float(curve.latency.percentile(percent)));
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\"/>"
        );
    }
}

fn legend(text: &mut String, curve: &Curve<'_>, y: f64, colour: &str) {
    let at = |percent| show(as_float(curve.latency.percentile(percent)));
    let line = format!(
        "{}: p50 {}, p99 {}, {:.0} calls/s",
        escaped(curve.name),
        at(50.0),
        at(99.0),
        curve.per_second
    );
    let _ = writeln!(
        text,
        "<text x=\"{RIGHT}\" y=\"{y}\" text-anchor=\"end\" fill=\"{colour}\">{line}</text>"
    );
}

/// Nanoseconds for people.
pub(crate) fn show(nanos: f64) -> String {
    duration::show(Duration::from_secs_f64(nanos / 1e9))
}

fn escaped(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Histogram {
        let mut latency = Histogram::default();
        for micros in [10, 10, 10, 12, 20, 4000] {
            latency.count(micros * 1000);
        }
        latency
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        let bars = bars(&times());
        let lines: Vec<&str> = bars.lines().collect();
        assert_eq!(lines.len(), BARS);
        assert!(
            lines[0].ends_with(&format!(" 66.67 %  {}", "#".repeat(48))),
            "{bars}"
        );
        assert!(
            lines[1].ends_with(&format!(" 16.67 %  {}", "#".repeat(12))),
            "{bars}"
        );
        assert!(lines[15].starts_with("  <  4.00 ms   16.67 %"), "{bars}");
    }

    #[test]
    fn the_file_is_xml_whatever_names_hold() {
        let latency = times();
        let empty = Histogram::default();
        let curves = [("a<b>&\"", &latency), ("none", &empty)];
        let curves = curves.map(|(name, latency)| Curve {
            name,
            latency,
            per_second: 5.0,
        });
        let svg = svg("unix:/x & y\n", &curves);
        assert!(
            svg.contains("a&lt;b&gt;&amp;&quot;: p50 10.0 µs, p99 4.00 ms, 5 calls/s"),
            "{svg}"
        );
        assert!(svg.contains("unix:/x &amp; y</text>"), "{svg}");
        assert_eq!(svg.matches("<path").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
