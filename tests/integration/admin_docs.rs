//! The page on metrics, the dashboard and the alert rules in `docs/`, held against what a server says of itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    admin::{admin, with_admin},
    support::{
        openmetrics::{Exposition, Sample},
        serve,
    },
};

/// Labels that a Prometheus adds, or that a dashboard chooses by.
const OUTSIDE: [&str; 2] = ["job", "instance"];
/// Series that a Prometheus makes itself.
const ITS_OWN: [&str; 1] = ["up"];
/// What stands in queries besides names of series and labels.
const WORDS: [&str; 18] = [
    "sum",
    "max",
    "by",
    "rate",
    "increase",
    "changes",
    "histogram_quantile",
    "time",
    "le",
    "shard",
    "reason",
    "result",
    "protocol",
    "job",
    "instance",
    "m",
    "label_values",
    "rung",
];

fn exposition() -> Exposition {
    let mut exposition = None;
    serve(with_admin(), |server| {
        exposition = Some(Exposition::parse(admin(server).get("/metrics").text()));
    });
    exposition.expect("it was asked for")
}

/// The queries of alert rules: what stands behind `expr:`, in its line or, folded, in those that are further in.
fn queries_of_rules(text: &str) -> Vec<String> {
    let mut queries = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((before, query)) = line.split_once("expr:") else { continue };
        let mut query = query.trim().to_owned();
        if query == ">-" {
            query.clear();
            let is_further_in = |line: &str| line.len() - line.trim_start().len() > before.len();
            while let Some(line) = lines.next_if(|line| is_further_in(line)) {
                query = format!("{query} {}", line.trim());
            }
        }
        assert!(!query.is_empty(), "{line}");
        queries.push(query);
    }
    queries
}

/// The queries of a dashboard: every `expr` in it, and those its variables are made of.
fn queries_of_dashboard(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("expr" | "query", Some(query)) if query != "prometheus" => {
                        queries.push(query.to_owned());
                    }
                    _ => queries_of_dashboard(value, queries),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| queries_of_dashboard(value, queries));
        }
        _ => {}
    }
}

/// Checks that a query names only series there are, with labels and values that they have.
fn check_query(query: &str, samples: &[&Sample]) {
    let mut rest = query;
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '$') {
        // Numbers with a unit, and variables of the dashboard.
        let is_part = rest[..start].ends_with(|letter: char| letter.is_ascii_digit());
        let skip = usize::from(rest[start..].starts_with('$'));
        let end =
            rest[start + skip..].find(|letter| !is_word(letter)).map_or(rest.len(), |end| start + skip + end);
        let word = &rest[start..end];
        rest = &rest[end..];
        if is_part || skip == 1 || WORDS.contains(&word) {
            continue;
        }
        let named: Vec<_> = samples.iter().filter(|sample| sample.name == word).collect();
        assert!(!named.is_empty() || ITS_OWN.contains(&word), "there is no series {word}: {query}");
        let Some(inner) = rest.strip_prefix('{') else { continue };
        let (selector, behind) = inner.split_once('}').expect("a selector has an end");
        rest = behind;
        for matcher in selector.split(',') {
            let (label, values) = matcher.split_once('=').expect("a label and its value");
            if OUTSIDE.contains(&label) {
                continue;
            }
            let values = values.trim_start_matches('~').trim_matches('"').split('|');
            for value in values {
                let has = |sample: &&&Sample| {
                    sample.labels.iter().any(|(name, other)| name == label && other == value)
                };
                assert!(named.iter().any(has), "no {word} has {label}=\"{value}\": {query}");
            }
        }
    }
}

#[test]
fn dashboard_and_alerts_ask_for_nothing_that_there_is_not() {
    let exposition = exposition();
    let samples: Vec<&Sample> = exposition.families.values().flat_map(|family| &family.samples).collect();
    let rules = queries_of_rules(include_str!("../../docs/alerts.yml"));
    assert!(rules.len() >= 15, "{rules:?}");
    let dashboard =
        serde_json::from_str(include_str!("../../docs/grafana-dashboard.json")).expect("it is JSON");
    let mut queries = Vec::new();
    queries_of_dashboard(&dashboard, &mut queries);
    assert!(queries.len() >= 40, "{}", queries.len());
    rules.iter().chain(&queries).for_each(|query| check_query(query, &samples));
}

#[test]
#[should_panic(expected = "no fanfare_closes_total has reason=\"slwo\"")]
fn misspelt_value_of_a_label_is_found() {
    let exposition = exposition();
    let samples: Vec<&Sample> = exposition.families.values().flat_map(|family| &family.samples).collect();
    check_query("rate(fanfare_closes_total{job=\"x\",reason=~\"slow|slwo\"}[5m]) > 0", &samples);
}

#[test]
fn every_family_is_documented_as_it_is_and_nothing_else() {
    let exposition = exposition();
    let told: BTreeMap<String, (String, BTreeSet<String>)> = exposition
        .families
        .iter()
        .map(|(name, family)| {
            let labels = family.samples.iter().flat_map(|sample| &sample.labels);
            let labels = labels.map(|(label, _)| label.clone()).filter(|label| label != "le").collect();
            (name.clone(), (family.kind.clone(), labels))
        })
        .collect();
    let rows = include_str!("../../docs/METRICS.md").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let (kind, labels) = (cells.next()?, cells.next()?);
        let is_family = name.starts_with("fanfare_") || name.starts_with("process_");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        is_family.then(|| (name.to_owned(), (kind.to_owned(), labels)))
    });
    let documented: BTreeMap<String, (String, BTreeSet<String>)> = rows.collect();
    for (name, how) in &told {
        assert_eq!(documented.get(name), Some(how), "{name} in docs/METRICS.md");
    }
    for name in documented.keys() {
        assert!(told.contains_key(name), "docs/METRICS.md tells of {name}, which there is not");
    }
}
