//! A strict reader of OpenMetrics 1.0 text: what it does not understand fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// What was read: families by name, in no order.
#[derive(Debug)]
pub(crate) struct Exposition {
    pub(crate) families: BTreeMap<String, Family>,
}

/// One family.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// One sample.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The whole name, with its suffix.
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Exposition {
    /// Reads a text, all of it.
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the last line is # EOF");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        for line in body.split_terminator('\n') {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let [what, name, rest] =
                    [words.next(), words.next(), words.next()].map(|word| word.expect(line));
                match what {
                    "TYPE" => {
                        assert!(is_name(name), "{line}");
                        name.clone_into(&mut current);
                        let family = Family { kind: rest.to_owned(), ..Family::default() };
                        assert!(families.insert(current.clone(), family).is_none(), "twice: {line}");
                    }
                    "UNIT" => {
                        assert!(name == current && name.ends_with(&format!("_{rest}")), "{line}");
                    }
                    "HELP" => {
                        assert!(name == current && !rest.is_empty(), "{line}");
                        rest.clone_into(&mut families.get_mut(name).expect("it has a type").help);
                    }
                    _ => panic!("what is {line}?"),
                }
                continue;
            }
            let sample = Sample::parse(line);
            let family = families.get_mut(&current).expect("a sample follows its family's type");
            let suffix =
                sample.name.strip_prefix(&current).unwrap_or_else(|| panic!("not of {current}: {line}"));
            let allowed: &[&str] = match &*family.kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_count", "_sum"],
                kind => panic!("what kind is {kind}?"),
            };
            assert!(allowed.contains(&suffix), "{line} of a {}", family.kind);
            assert!(family.kind == "gauge" || sample.value >= 0.0, "{line}");
            family.samples.push(sample);
        }
        families.values().for_each(Family::check);
        Self { families }
    }

    /// The value of a sample, named as a query names it, with all its labels.
    #[track_caller]
    pub(crate) fn value(&self, query: &str) -> f64 {
        let (name, labels) = match query.split_once('{') {
            Some(_) => {
                let sample = Sample::parse(&format!("{query} 0"));
                (sample.name, sample.labels)
            }
            None => (query.to_owned(), Vec::new()),
        };
        let mut samples = self.families.values().flat_map(|family| &family.samples);
        let found = samples.find(|sample| sample.name == name && sample.labels == labels);
        found.unwrap_or_else(|| panic!("there is no {query}")).value
    }

    /// Every series, as it is named.
    pub(crate) fn series(&self) -> BTreeSet<String> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.map(|sample| format!("{} {:?}", sample.name, sample.labels)).collect()
    }
}

impl Family {
    fn check(&self) {
        assert!(!self.help.is_empty() && !self.samples.is_empty(), "{self:?}");
        let names: Vec<_> = self.samples.iter().map(|sample| (&sample.name, &sample.labels)).collect();
        assert_eq!(
            names.iter().collect::<BTreeSet<_>>().len(),
            names.len(),
            "a series stands twice: {names:?}"
        );
        if self.kind != "histogram" {
            return;
        }
        let of = |suffix| self.samples.iter().filter(move |sample| sample.name.ends_with(suffix));
        let buckets: Vec<_> = of("_bucket").collect();
        let ends: Vec<f64> = buckets
            .iter()
            .map(|bucket| match &bucket.labels[..] {
                [(label, end)] if label == "le" && end == "+Inf" => f64::INFINITY,
                [(label, end)] if label == "le" && end.contains('.') => end.parse().expect("a number"),
                other => panic!("an upper end is {other:?}"),
            })
            .collect();
        assert!(ends.is_sorted_by(|a, b| a < b) && ends.last() == Some(&f64::INFINITY), "{ends:?}");
        assert!(buckets.is_sorted_by_key(|bucket| bucket.value), "{buckets:?}");
        let count = of("_count").map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!(count, [buckets.last().expect("there is one").value]);
        assert_eq!(of("_sum").count(), 1);
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line}"));
        let (name, mut rest) = line.split_at(name_end);
        assert!(is_name(name), "{line}");
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
                assert!(is_name(label) && !label.contains(':'), "{line}");
                let end = quoted.find('"').unwrap_or_else(|| panic!("no end: {line}"));
                assert!(!quoted[..end].contains('\\'), "no value here needs escapes: {line}");
                labels.push((label.to_owned(), quoted[..end].to_owned()));
                rest = &quoted[end + 1..];
                match rest.strip_prefix(',') {
                    Some(next) => rest = next,
                    None => break,
                }
            }
            rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("no end: {line}"));
        }
        let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(value.is_finite(), "{line}");
        Self { name: name.to_owned(), labels, value }
    }
}

fn is_name(text: &str) -> bool {
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_';
    !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(is_allowed)
}
