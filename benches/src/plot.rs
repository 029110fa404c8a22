//! Plots as SVG: values by category on a logarithmic scale, as lines or as bars.

use std::fmt::Write;

use crate::report::number;

/// What is drawn.
pub struct Figure {
    /// Above it.
    pub title: String,
    /// What the values are.
    pub unit: String,
    /// Below it, from left to right.
    pub categories: Vec<String>,
    /// What is drawn of each category.
    pub series: Vec<Series>,
    /// Bars side by side, instead of lines.
    pub bars: bool,
}

/// Values of one kind, one for each category.
pub struct Series {
    /// For the key.
    pub name: String,
    /// None where there is none.
    pub values: Vec<Option<f64>>,
    /// Which colour.
    pub colour: usize,
    /// Broken, or pale.
    pub is_raw: bool,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const RIGHT: f64 = 560.0;
const BOTTOM: f64 = 350.0;
const COLOURS: [&str; 6] = ["#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce", "#b45309", "#475569"];

impl Figure {
    /// The text of an SVG file.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut svg, LEFT, 24.0, "start", &format!("{} ({})", self.title, self.unit));
        let (low, high) = self.decades();
        let scale = Scale { low, high };
        for decade in low..=high {
            let y = scale.y(10_f64.powi(decade));
            line(&mut svg, (LEFT, y), (RIGHT, y), "#e2e8f0", false);
            text(&mut svg, LEFT - 6.0, y + 4.0, "end", &number(10_f64.powi(decade)));
        }
        let step = (RIGHT - LEFT) / self.categories.len().max(1) as f64;
        for (i, category) in self.categories.iter().enumerate() {
            text(&mut svg, LEFT + step * (i as f64 + 0.5), BOTTOM + 18.0, "middle", category);
        }
        for (i, series) in self.series.iter().enumerate() {
            if self.bars {
                self.bars_of(&mut svg, &scale, step, i, series);
            } else {
                lines_of(&mut svg, &scale, step, series);
            }
            key(&mut svg, i, series);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The powers of ten between which all values lie.
    fn decades(&self) -> (i32, i32) {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if logs.is_empty() {
            return (0, 1);
        }
        let low = low.floor() as i32;
        (low, (high.ceil() as i32).max(low + 1))
    }

    fn bars_of(&self, svg: &mut String, scale: &Scale, step: f64, i: usize, series: &Series) {
        let width = step * 0.8 / self.series.len().max(1) as f64;
        for (category, value) in series.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let x = LEFT + step * (category as f64 + 0.1) + width * i as f64;
            let y = scale.y(*value);
            let opacity = if series.is_raw { 0.45 } else { 1.0 };
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" opacity=\"{opacity}\"/>",
                width - 1.0,
                BOTTOM - y,
                colour(series)
            );
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"9\">{}</text>",
                x + width / 2.0,
                y - 3.0,
                number(*value)
            );
        }
    }
}

/// From the logarithm of a value to a place.
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP)
    }
}

fn lines_of(svg: &mut String, scale: &Scale, step: f64, series: &Series) {
    let places = series.values.iter().enumerate();
    let points: Vec<(f64, f64)> =
        places.filter_map(|(i, value)| Some((LEFT + step * (i as f64 + 0.5), scale.y((*value)?)))).collect();
    for pair in points.windows(2) {
        line(svg, pair[0], pair[1], colour(series), series.is_raw);
    }
    for (x, y) in points {
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{}\"/>", colour(series));
    }
}

fn key(svg: &mut String, i: usize, series: &Series) {
    let y = TOP + 18.0 * i as f64;
    line(svg, (RIGHT + 16.0, y), (RIGHT + 40.0, y), colour(series), series.is_raw);
    text(svg, RIGHT + 46.0, y + 4.0, "start", &series.name);
}

fn colour(series: &Series) -> &'static str {
    COLOURS[series.colour % COLOURS.len()]
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, broken: bool) {
    let dashes = if broken { " stroke-dasharray=\"5 4\"" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"1.6\"{dashes}/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a String cannot fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_value_is_drawn_higher_and_names_are_escaped() {
        let series =
            Series { name: "a<b".into(), values: vec![Some(2.0), Some(20.0)], colour: 0, is_raw: false };
        let figure = Figure {
            title: "t".into(),
            unit: "ms".into(),
            categories: vec!["x".into(), "y".into()],
            series: vec![series],
            bars: false,
        };
        assert_eq!(figure.decades(), (0, 2));
        let scale = Scale { low: 0, high: 2 };
        assert!(scale.y(20.0) < scale.y(2.0));
        assert!(figure.svg().contains("a&lt;b") && !figure.svg().contains("NaN"));
    }
}
