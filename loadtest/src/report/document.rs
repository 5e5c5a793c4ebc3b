//! The JSON file: what was run, where, and what came of it. Its shape is versioned; figures carry their units in their
//! names. Objects are spread over lines and arrays are not, so that a series of hundreds of points stays one line.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::{Environment, Page};
use crate::error::{Error, Result};
use crate::verdict::Verdict;

/// Raised when a field changes its meaning or goes away; a new field does not raise it.
pub(super) const SCHEMA_VERSION: u32 = 2;

/// Everything a published figure has to keep.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a, R: ?Sized> {
    schema_version: u32,
    scenario: &'a str,
    pub(super) environment: &'a Environment,
    faultless: bool,
    remarks: &'a [String],
    result: &'a R,
}

impl<'a, R: Serialize + ?Sized> Document<'a, R> {
    pub(super) fn new(page: &'a Page, environment: &'a Environment, result: &'a R) -> Self {
        let (verdict, remarks) = match &page.verdict {
            Some((verdict, remarks)) => (*verdict, &remarks[..]),
            None => (Verdict::Faulty, &[][..]),
        };
        Self {
            schema_version: SCHEMA_VERSION,
            scenario: page.scenario,
            environment,
            faultless: verdict == Verdict::Faultless,
            remarks,
            result,
        }
    }

    pub(super) fn to_json(&self) -> Result<String> {
        let mut bytes = Vec::new();
        self.serialize(&mut Serializer::with_formatter(&mut bytes, Layout::default()))
            .map_err(|error| Error::Failed(format!("the figures cannot be written as JSON: {error}")))?;
        bytes.push(b'\n');
        String::from_utf8(bytes).map_err(|error| Error::Failed(error.to_string()))
    }
}

/// Objects pretty, arrays compact.
#[derive(Default)]
struct Layout {
    objects: PrettyFormatter<'static>,
    arrays: CompactFormatter,
}

impl Formatter for Layout {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.arrays.begin_array_value(writer, first)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects.end_object(writer)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.objects.begin_object_key(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects.begin_object_value(writer)
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_spread_and_arrays_are_not() {
        let mut bytes = Vec::new();
        let value = serde_json::json!({ "a": [1, 2, { "b": [] }], "c": {} });
        value
            .serialize(&mut Serializer::with_formatter(&mut bytes, Layout::default()))
            .expect("memory takes everything");
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        assert_eq!(text, "{\n  \"a\": [1,2,{\n    \"b\": []\n  }],\n  \"c\": {}\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("valid"), value);
    }
}
