//! Times, sizes and counts as an operator writes them: `25s`, `64KiB`, `128`. A number without its unit is a time of
//! nobody knows what, and is refused.
//!
//! Flags and environment variables are read by `FromStr`. In a configuration file times and sizes are strings of the same
//! form, and counts are numbers; what is shown can be given in either place.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// A time: a whole number and `ms`, `s`, `m` or `h`, or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size in bytes: a whole number, alone or with `B`, `kB`, `MB`, `GB` (by 1000), `KiB`, `MiB`, `GiB` (by 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// A whole number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

/// What is wrong with a time, size or count, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitError(&'static str);

/// A time in whole milliseconds; the most there are for one that has more.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const SPAN_UNIT: UnitError = UnitError("a time is a whole number with its unit: 500ms, 25s, 2m or 1h");
const SPAN_LARGE: UnitError = UnitError("the time is too long");
const SIZE_UNIT: UnitError = UnitError(
    "a size is a whole number of bytes, or one with its unit: 65536, 64KiB, 1MiB, 64kB (KiB is 1024, kB is 1000)",
);
const SIZE_LARGE: UnitError = UnitError("the size is too large");
const COUNT: UnitError = UnitError("a whole number is allowed");

/// The number in front and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text).ok_or(SPAN_UNIT)?;
        let ms: u64 = match unit {
            "" if number == 0 => 0,
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(SPAN_UNIT),
        };
        number.checked_mul(ms).map(|ms| Self(Duration::from_millis(ms))).ok_or(SPAN_LARGE)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text).ok_or(SIZE_UNIT)?;
        let bytes: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(SIZE_UNIT),
        };
        let bytes = number.checked_mul(bytes).and_then(|bytes| usize::try_from(bytes).ok());
        bytes.map(Self).ok_or(SIZE_LARGE)
    }
}

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.trim().parse().map(Self).map_err(|_| COUNT)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0"),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_usize << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a time in quotes, such as \"25s\"")
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a size in quotes, such as \"64KiB\"")
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Number)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reads a string as a flag's value is read. `expected` is said when it is no string.
pub(crate) fn from_text<'de, T, D>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|error| E::custom(format_args!("invalid value '{text}': {error}")))
        }
    }

    deserializer.deserialize_str(Text(expected, std::marker::PhantomData))
}

/// Reads a number that is not negative.
struct Number;

impl Visitor<'_> for Number {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Count, E> {
        let count = usize::try_from(number);
        count.map(Count).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_their_unit() {
        let ms = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
        assert_eq!(
            [ms("500ms"), ms("25s"), ms("2m"), ms("1h"), ms("0")].map(Result::unwrap),
            [500, 25_000, 120_000, 3_600_000, 0]
        );
        for bad in ["", "25", "s", "-1s", "1.5s", "1d", "1S", "1m30s", "99999999999999999999s"] {
            assert_eq!(ms(bad), Err(SPAN_UNIT), "{bad}");
        }
        assert_eq!(ms("18446744073709551615h"), Err(SPAN_LARGE));
    }

    #[test]
    fn sizes_are_binary_or_decimal_as_they_say() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        let given = ["65536", "64KiB", "64kB", "1MiB", "1MB", "2GiB", "7B", "64 kib"];
        let bytes = [65_536, 65_536, 64_000, 1 << 20, 1_000_000, 2 << 30, 7, 65_536];
        assert_eq!(given.map(|text| size(text).unwrap()), bytes);
        for bad in ["", "k", "1k", "1M", "1.5MiB", "-1", "1TiB"] {
            assert_eq!(size(bad), Err(SIZE_UNIT), "{bad}");
        }
        assert_eq!(size("18446744073709551615KiB"), Err(SIZE_LARGE));
    }

    #[test]
    fn counts_are_whole_numbers() {
        assert_eq!(" 128 ".parse(), Ok(Count(128)));
        for bad in ["", "-1", "1.5", "1k", "99999999999999999999999"] {
            assert_eq!(bad.parse::<Count>(), Err(COUNT), "{bad}");
        }
    }

    #[test]
    fn in_a_file_times_and_sizes_are_strings_and_counts_are_numbers() {
        let read = |json: &str| serde_json::from_str::<(Span, Size, Count)>(json).map_err(|e| e.to_string());
        let values = (Span(Duration::from_secs(90)), Size(65_536), Count(3));
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(json, r#"["90s","64KiB",3]"#);
        assert_eq!(read(&json).unwrap(), values);
        for (json, part) in [
            (r#"["25","1",1]"#, "invalid value '25': a time is a whole number with its unit"),
            (r#"[25,"1",1]"#, "integer `25`, expected a time in quotes, such as \"25s\""),
            (r#"["1s","1M",1]"#, "invalid value '1M': a size is a whole number of bytes"),
            (r#"["1s",1,1]"#, "integer `1`, expected a size in quotes, such as \"64KiB\""),
            (r#"["1s","1",-1]"#, "integer `-1`, expected a whole number"),
            (r#"["1s","1","1"]"#, "string \"1\", expected a whole number"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json} says only: {error}");
        }
    }

    #[test]
    fn what_is_shown_can_be_given() {
        for text in ["0", "500ms", "25s", "90s", "2m", "1h", "25h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0", "1000", "64KiB", "1MiB", "1025KiB", "3GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}
