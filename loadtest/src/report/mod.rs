//! What a run leaves behind. A scenario fills a [`Page`]; from it come the text on the terminal and the HTML file,
//! and beside it goes the scenario's own result, typed, into the JSON file. Nothing here measures anything.
//!
//! ```text
//! let mut page = Page::new("fanout", "One topic, everybody on it");
//! page.fact("clients", "5,000");
//! output.begin(&page, &environment)?;      // head on the terminal; refuses files that cannot be written
//! …rounds…
//! page.section("Speed").table(table).plot(lines);
//! page.conclude(verdict, remarks);
//! output.end(&page, &environment, &result)?; // tables on the terminal, HTML and JSON files
//! ```

mod audit;
pub(crate) mod comparison;
mod document;
mod environment;
mod escape;
mod html;
mod plot;
pub(crate) mod plots;
pub(crate) mod rounds;
mod supply;
mod svg;
mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::verdict::Verdict;
use document::Document;
pub(crate) use environment::Environment;
pub(crate) use plot::{Axis, Dot, Dots, Lines, Plot, Scale, Series, Unit};
pub(crate) use table::{Table, unknown};

/// Where a run's figures go besides the terminal.
#[derive(Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with tables and plots to this file
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
}

impl OutputArgs {
    /// Prints what is about to be measured. Fails if a file could not be written in the end: better told before an
    /// hour of load than after it.
    pub(crate) fn begin(&self, page: &Page, environment: &Environment) -> Result<()> {
        for path in [&self.json, &self.report].into_iter().flatten() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(Error::Usage(format!("{} cannot be written", path.display())));
            }
        }
        let facts: Vec<String> = page.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
        println!("{}: {}", page.scenario, facts.join(", "));
        println!("machine: {}\n", environment.line());
        Ok(())
    }

    /// Prints the tables and texts of `page`, and writes the files that were asked for. `result` is what the scenario
    /// found, with units in its field names.
    pub(crate) fn end(
        &self,
        page: &Page,
        environment: &Environment,
        result: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        page.print();
        let document = Document::new(page, environment, result);
        if let Some(path) = &self.json {
            write(path, &document.to_json()?)?;
        }
        if let Some(path) = &self.report {
            write(path, &html::render(page, &document))?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

/// Everything a run shows to people, in the order in which it is read.
#[derive(Debug)]
pub(crate) struct Page {
    scenario: &'static str,
    purpose: &'static str,
    facts: Vec<(String, String)>,
    headlines: Vec<(String, String)>,
    sections: Vec<Section>,
    verdict: Option<(Verdict, Vec<String>)>,
}

impl Page {
    /// `scenario` is its name on the command line, `purpose` one line.
    pub(crate) fn new(scenario: &'static str, purpose: &'static str) -> Self {
        Self {
            scenario,
            purpose,
            facts: Vec::new(),
            headlines: Vec::new(),
            sections: Vec::new(),
            verdict: None,
        }
    }

    /// One parameter of the run, as it was after all defaults.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.facts.push((name.to_owned(), value.into()));
        self
    }

    /// A key figure: what came of the run, shown large. Three to five are enough.
    pub(crate) fn headline(&mut self, value: impl Into<String>, label: impl Into<String>) -> &mut Self {
        self.headlines.push((value.into(), label.into()));
        self
    }

    /// Begins a section; what it gets comes below those before it.
    pub(crate) fn section(&mut self, heading: impl Into<String>) -> &mut Section {
        self.sections.push(Section { heading: heading.into(), is_printed: false, blocks: Vec::new() });
        self.sections.last_mut().expect("one was just pushed")
    }

    /// What came of it, and what a reader must not overlook; the last remark says the verdict in words.
    pub(crate) fn conclude(&mut self, verdict: Verdict, remarks: Vec<String>) {
        self.verdict = Some((verdict, remarks));
    }

    /// Tables and texts in their order; plots are for the HTML only.
    fn print(&self) {
        for section in &self.sections {
            if section.is_printed {
                println!("{}\n", section.heading);
            }
            for block in &section.blocks {
                match block {
                    Block::Text(text) => println!("{text}\n"),
                    Block::Table(table) => {
                        table.print();
                        println!();
                    }
                    Block::Plot(_) => {}
                }
            }
        }
        let remarks = self.verdict.iter().flat_map(|(_, remarks)| remarks);
        remarks.for_each(|remark| println!("{remark}"));
    }
}

/// A heading and what stands below it.
#[derive(Debug)]
pub(crate) struct Section {
    heading: String,
    /// Whether the terminal shows the heading too.
    is_printed: bool,
    blocks: Vec<Block>,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Table(Table),
    Plot(Plot),
}

impl Section {
    /// A paragraph.
    pub(crate) fn text(&mut self, text: impl Into<String>) -> &mut Self {
        self.blocks.push(Block::Text(text.into()));
        self
    }

    pub(crate) fn table(&mut self, table: Table) -> &mut Self {
        self.blocks.push(Block::Table(table));
        self
    }

    /// A plot without a single point is left out.
    pub(crate) fn plot(&mut self, plot: impl Into<Plot>) -> &mut Self {
        let plot = plot.into();
        if !plot.is_empty() {
            self.blocks.push(Block::Plot(plot));
        }
        self
    }

    /// Several, in their order.
    pub(crate) fn plots(&mut self, plots: impl IntoIterator<Item = impl Into<Plot>>) -> &mut Self {
        for plot in plots {
            self.plot(plot);
        }
        self
    }
}
