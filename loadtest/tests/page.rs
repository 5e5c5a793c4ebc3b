//! The HTML page, checked without a browser: it is well formed, asks nothing of any other place, and shows whatever was
//! given on the command line as text and nothing else.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use support::{Fault, FaultyServer};

/// Elements without an end.
const VOID: [&str; 1] = ["meta"];
const HOSTILE: &str =
    "</title></style>\"'><script src=//evil.example/x.js>alert(1)</script><img onerror=x> &amp;";

/// The page of a short run with `extra` arguments.
fn page(name: &str, extra: &[&str]) -> String {
    let server = FaultyServer::start(Fault::None);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.html", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["fanout", "--target", &server.address.to_string(), "--duration", "300ms", "--threads", "1"])
        .args(["--warm-up", "100ms", "--settle", "0s", "--report"])
        .arg(&path)
        .args(extra)
        .output()
        .expect("the harness runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&path).expect("a page");
    let _ = std::fs::remove_file(&path);
    text
}

/// One tag: its name, whether it ends an element, whether it is one by itself, and its attributes.
struct Tag<'a> {
    name: &'a str,
    ends: bool,
    alone: bool,
    attributes: Vec<(&'a str, &'a str)>,
}

/// All tags of `page`; what stands in `style` is skipped.
fn tags(page: &str) -> Vec<Tag<'_>> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let mut tags = Vec::new();
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "an unescaped > in {:?}", &rest[..at]);
        let (tag, after) = take_tag(&rest[at + 1..]);
        rest = if tag.name == "style" && !tag.ends {
            &after[after.find("</style>").expect("the style ends")..]
        } else {
            after
        };
        tags.push(tag);
    }
    tags
}

fn take_tag(text: &str) -> (Tag<'_>, &str) {
    let ends = text.starts_with('/');
    let text = text.strip_prefix('/').unwrap_or(text);
    let length = text.find(|letter: char| !letter.is_ascii_alphanumeric()).expect("a tag ends");
    let (name, mut rest) = text.split_at(length);
    assert!(!name.is_empty(), "an unescaped < before {:?}", &text[..text.len().min(40)]);
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('>') {
            return (Tag { name, ends, alone: false, attributes }, after);
        }
        if let Some(after) = rest.strip_prefix("/>") {
            return (Tag { name, ends, alone: true, attributes }, after);
        }
        let (attribute, after) = rest.split_once("=\"").expect("attributes are quoted");
        let (value, after) = after.split_once('"').expect("a quote ends");
        assert!(!attribute.contains(['<', '>', '"', ' ']), "{attribute:?} is no attribute");
        attributes.push((attribute, value));
        rest = after;
    }
}

fn assert_sound(page: &str) {
    let (mut open, mut ids) = (Vec::new(), BTreeSet::new());
    for tag in tags(page) {
        for &(name, value) in &tag.attributes {
            assert!(!["src", "href", "srcset", "action", "data"].contains(&name), "{name}={value}");
            assert!(!name.starts_with("on") && name != "style", "{name}={value}");
            assert!(!value.contains("NaN") && !value.contains("inf "), "{}: {name}={value}", tag.name);
            assert!(name != "id" || ids.insert(value), "two elements are called {value}");
        }
        assert!(
            !["script", "link", "iframe", "img", "object", "base", "form"].contains(&tag.name),
            "{}",
            tag.name
        );
        if tag.ends {
            assert_eq!(open.pop(), Some(tag.name), "{} ends here", tag.name);
        } else if !tag.alone && !VOID.contains(&tag.name) {
            open.push(tag.name);
        }
    }
    assert!(open.is_empty(), "{open:?} never end");
    for reference in ["url(", "@import", "expression("] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn a_page_is_well_formed_and_needs_nothing_else() {
    let page = page("plain", &["--clients", "40", "--rounds", "3"]);
    assert_sound(&page);
    let tags = tags(&page);
    let count = |name: &str| tags.iter().filter(|tag| tag.name == name && !tag.ends).count();
    assert_eq!(count("h1"), 1);
    assert_eq!(count("caption"), count("table"));
    assert!(count("table") >= 2 && count("figure") >= 5, "{} {}", count("table"), count("figure"));
    let drawings = |class: &str| tags.iter().filter(|tag| tag.attributes.contains(&("class", class))).count();
    assert_eq!([drawings("wide"), drawings("narrow")], [count("figure"); 2]);
    assert!(tags.iter().any(|tag| tag.name == "html" && tag.attributes == [("lang", "en")]));
    for part in ["prefers-color-scheme: dark", "@media print", "Latency by percentile", "Harness commit"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_was_given_is_shown_as_text() {
    let page = page("hostile", &["--clients", "20", "--server-args", HOSTILE]);
    assert_sound(&page);
    assert!(page.contains(
        "&lt;script src=//evil.example/x.js&gt;alert(1)&lt;/script&gt;&lt;img onerror=x&gt; &amp;amp;"
    ));
}

#[test]
fn a_list_of_clients_is_plotted_against_the_ratio() {
    let harness = env!("CARGO_BIN_EXE_loadtest");
    let json = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("list-{}.json", std::process::id()));
    let report = json.with_extension("html");
    let output = Command::new(harness)
        .args(["fanout", "--against", "floor", "--rounds", "1", "--clients", "10,30", "--duration", "300ms"])
        .args(["--warm-up", "100ms", "--settle", "0s", "--server", harness])
        .args(["--server-args", "serve-floor --listen {listen}"])
        .arg("--json")
        .arg(&json)
        .arg("--report")
        .arg(&report)
        .output()
        .expect("the harness runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("largest ratio / smallest"), "{text}");
    let document = std::fs::read_to_string(&json).expect("figures");
    let document: serde_json::Value = serde_json::from_str(&document).expect("valid JSON");
    let steps = document["result"]["steps"].as_array().expect("steps");
    let clients: Vec<_> = steps.iter().map(|step| step["clients"].as_u64()).collect();
    assert_eq!(clients, [Some(10), Some(30)]);
    assert!(document["result"]["flatness"].as_f64().is_some_and(|flatness| flatness >= 1.0));
    assert!(document["schema_version"].is_number() && document["environment"]["kernel"].is_string());
    let timeline = &steps[0]["rounds"][0]["timeline"];
    let length = timeline["seconds"].as_array().map(Vec::len);
    assert_eq!(timeline["server_resident_bytes"].as_array().map(Vec::len), length);
    let page = std::fs::read_to_string(&report).expect("a page");
    assert_sound(&page);
    assert!(page.contains("Ratio to the floor by clients"));
    let _ = (std::fs::remove_file(&json), std::fs::remove_file(&report));
}

#[test]
fn files_that_cannot_be_written_are_refused_before_the_load() {
    for option in ["--json", "--report"] {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["floor", "--clients", "10", "--duration", "60s", option, "/nonexistent/folder/file"])
            .output()
            .expect("the harness runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be written"));
    }
}
