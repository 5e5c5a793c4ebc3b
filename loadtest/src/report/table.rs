//! Text in columns, with a caption: printed in the terminal as it stands, and shown in the page as an HTML table.

/// What stands where a figure is not known.
pub(crate) fn unknown() -> String {
    "?".to_owned()
}

/// Text in columns: the first aligned to the left, all others to the right.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// What the rows are about; shown in the page only.
    pub(super) caption: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Which of them sum up others.
    pub(super) totals: Vec<usize>,
}

impl Table {
    pub(crate) fn new(caption: impl Into<String>, head: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            head: head.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
            totals: Vec::new(),
        }
    }

    /// `cells` may be fewer than the head has.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// A row that sums up others, such as their medians.
    pub(crate) fn total(&mut self, cells: Vec<String>) {
        self.totals.push(self.rows.len());
        self.row(cells);
    }

    pub(super) fn print(&self) {
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let columns = rows().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}
