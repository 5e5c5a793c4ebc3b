//! The page as one HTML file that needs nothing else: no script, no font, no picture from anywhere. Every text that
//! goes into it passes [`escape`].

use serde::Serialize;

use super::document::Document;
use super::escape::escape;
use super::{Block, Page, Table, svg};
use crate::verdict::Verdict;

/// Remarks shown at once; if there are more, the rest is folded.
const REMARKS_MAX: usize = 6;

const STYLE: &str = include_str!("style.css");

/// The whole file.
pub(super) fn render<R: Serialize + ?Sized>(page: &Page, document: &Document<'_, R>) -> String {
    let environment = document.environment;
    let title = escape(&format!("{} — {}", page.scenario, environment.date));
    let mut body = String::new();
    body += &format!(
        "<header><p class=\"eyebrow\">loadtest</p><h1>{}</h1><p class=\"purpose\">{}</p>{}</header>\n",
        escape(page.scenario),
        escape(page.purpose),
        verdict(page)
    );
    body += &headlines(page);
    body += &list("facts", &page.facts);
    for (number, section) in page.sections.iter().enumerate() {
        body += &format!(
            "<section aria-labelledby=\"s{number}\"><h2 id=\"s{number}\">{}</h2>\n",
            escape(&section.heading)
        );
        // Plots that follow each other stand side by side where there is room.
        for blocks in section.blocks.chunk_by(|a, b| is_plot(a) && is_plot(b)) {
            let shown: String = blocks.iter().map(block).collect();
            body +=
                &if is_plot(&blocks[0]) { format!("<div class=\"plots\">\n{shown}</div>\n") } else { shown };
        }
        body += "</section>\n";
    }
    body += &format!(
        "<section aria-labelledby=\"environment\"><h2 id=\"environment\">Environment</h2>\n{}</section>\n",
        list("environment", &environment.facts())
    );
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn is_plot(block: &Block) -> bool {
    matches!(block, Block::Plot(_))
}

fn block(block: &Block) -> String {
    match block {
        Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
        Block::Table(shown) => table(shown),
        Block::Plot(plot) => svg::figure(plot),
    }
}

fn verdict(page: &Page) -> String {
    let Some((verdict, remarks)) = &page.verdict else { return String::new() };
    let (class, word) = match verdict {
        Verdict::Faultless => ("good", "Faultless"),
        Verdict::Faulty => ("bad", "Faulty"),
        Verdict::Undecided => ("bad", "Undecided"),
    };
    let (last, others) = remarks.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    // In a terminal the word leads the remark; here it stands there already.
    let last = last.strip_prefix(&format!("{}: ", word.to_uppercase())).unwrap_or(last);
    let items = |remarks: &[String]| -> String {
        remarks.iter().map(|remark| format!("<li>{}</li>", escape(remark))).collect()
    };
    let (shown, folded) =
        others.split_at(if others.len() > REMARKS_MAX { REMARKS_MAX - 1 } else { others.len() });
    let mut text = format!("<div class=\"verdict {class}\"><p><strong>{word}.</strong> {}</p>", escape(last));
    if !shown.is_empty() {
        text += &format!("<ul>{}</ul>", items(shown));
    }
    if !folded.is_empty() {
        let count = folded.len();
        text +=
            &format!("<details><summary>{count} more remarks</summary><ul>{}</ul></details>", items(folded));
    }
    text + "</div>"
}

/// Key figures, large.
fn headlines(page: &Page) -> String {
    if page.headlines.is_empty() {
        return String::new();
    }
    let items = page
        .headlines
        .iter()
        .map(|(value, label)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(label), escape(value)));
    format!("<dl class=\"headlines\">\n{}</dl>\n", items.collect::<String>())
}

fn list(class: &str, facts: &[(String, String)]) -> String {
    let items: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)))
        .collect();
    format!("<dl class=\"{class}\">\n{items}</dl>\n")
}

/// In a box of its own that scrolls if the table is wider than the page; it can be reached by keyboard for that.
fn table(table: &Table) -> String {
    let caption = escape(&table.caption);
    let head: String =
        table.head.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell))).collect();
    let mut rows = String::new();
    for (number, row) in table.rows.iter().enumerate() {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("<th scope=\"row\">{}</th>", escape(cell)),
            _ => format!("<td>{}</td>", escape(cell)),
        });
        let class = if table.totals.contains(&number) { " class=\"total\"" } else { "" };
        rows += &format!("<tr{class}>{}</tr>\n", cells.collect::<String>());
    }
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table>\n\
         <caption><span>{caption}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}
