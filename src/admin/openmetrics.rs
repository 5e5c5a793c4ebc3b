//! The text form of OpenMetrics 1.0: families, samples, and the end. What is measured stands in `figures`.

use std::fmt::{self, Write as _};

/// What an answer in this form is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What kind of family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes up only, and from zero with each start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often values were within bounds.
    Histogram,
    /// What does not change while the process runs, as labels.
    Info,
}

/// The text, being written.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// A family, being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: Kind,
}

/// A label and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

impl Text {
    /// Begins a family. Its unit, if it has one, is the end of its name.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        let kind_name = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        put(text, format_args!("# TYPE {name} {kind_name}\n"));
        if let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)) {
            put(text, format_args!("# UNIT {name} {unit}\n"));
        }
        debug_assert!(!help.contains(['\n', '\\', '"']), "it would have to be escaped");
        put(text, format_args!("# HELP {name} {help}\n"));
        Family { text, name, kind }
    }

    /// The whole text.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

impl Family<'_> {
    /// Writes a sample of a counter, gauge or info.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl fmt::Display) -> &mut Self {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
            Kind::Histogram => unreachable!("a histogram has buckets"),
        };
        self.line(suffix, labels, value);
        self
    }

    /// Writes a histogram: the counts of ranges, of which all but the last have an upper end, and the sum of the values.
    pub(super) fn histogram(&mut self, ends: &[f64], counts: &[u64], sum: impl fmt::Display) {
        debug_assert!(self.kind == Kind::Histogram && counts.len() == ends.len() + 1);
        let mut below = 0;
        let names = ends.iter().map(|end| format!("{end:?}")).chain(["+Inf".to_owned()]);
        for (count, end) in counts.iter().zip(names) {
            below += count;
            self.line("_bucket", &[("le", &end)], below);
        }
        self.line("_count", &[], below);
        self.line("_sum", &[], sum);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], value: impl fmt::Display) {
        put(self.text, format_args!("{}{suffix}", self.name));
        for (at, (label, value)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            put(self.text, format_args!("{open}{label}=\""));
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        put(self.text, format_args!("{close} {value}\n"));
    }
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_the_standard_shows_it() {
        let mut text = Text::default();
        text.family(Kind::Counter, "a_seconds", "Time").sample(&[], 1.5).sample(&[("l", "x\\y\n\"z\"")], 2);
        text.family(Kind::Info, "b", "About").sample(&[("v", "1")], 1);
        text.family(Kind::Histogram, "c", "Sizes").histogram(&[0.0, 2.5], &[1, 0, 3], 40);
        let expected = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds Time\n\
                        a_seconds_total 1.5\na_seconds_total{l=\"x\\\\y\\n\\\"z\\\"\"} 2\n\
                        # TYPE b info\n# HELP b About\nb_info{v=\"1\"} 1\n\
                        # TYPE c histogram\n# HELP c Sizes\n\
                        c_bucket{le=\"0.0\"} 1\nc_bucket{le=\"2.5\"} 1\nc_bucket{le=\"+Inf\"} 4\nc_count 4\nc_sum 40\n# EOF\n";
        assert_eq!(text.end(), expected);
    }
}
