//! How durations, sizes and shares are read from the command line, and how figures are written for people.
//! Pure text in, text out.

use std::time::Duration;

/// Reads `10s`, `500ms`, `2m`, `1h`. A bare number is refused: seconds and milliseconds are too easily mixed up.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is not a duration such as 10s or 500ms"))?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("`{text}` needs a unit: us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is out of range"))
}

/// Reads `128`, `4k`, `64KiB`, `1M`: bytes, in powers of 1,024.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let number: usize = number.parse().map_err(|_| format!("`{text}` is not a size such as 128 or 4KiB"))?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        _ => return Err(format!("`{text}`: the unit must be B, KiB or MiB")),
    };
    number.checked_mul(scale).ok_or_else(|| format!("`{text}` is out of range"))
}

/// Reads `1%` as 0.01. Between 0 and 90 %: somebody has to be left who reads.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').ok_or_else(|| format!("`{text}` is not a share such as 1%"))?;
    let percent: f64 = number.trim().parse().map_err(|_| format!("`{text}` is not a share such as 1%"))?;
    if !(0.0..=90.0).contains(&percent) {
        return Err(format!("`{text}` must lie between 0% and 90%"));
    }
    Ok(percent / 100.0)
}

/// As an argument for another program: `5s` as `5000ms`.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Reads a rate per second: more than 0, at most a million.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("`{text}` is not a number per second"))?;
    if rate > 0.0 && rate <= 1e6 { Ok(rate) } else { Err(format!("`{text}` is not between 0 and 1,000,000")) }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure with thousands separators and no decimals.
pub(crate) fn whole(number: f64) -> String {
    grouped(number.max(0.0).round() as u64)
}

/// Nanoseconds as `850 us`, `12.3 ms` or `1.25 s`.
pub(crate) fn latency(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000_000 => format!("{:.0} us", value / 1e3),
        1_000_000..100_000_000 => format!("{:.1} ms", value / 1e6),
        100_000_000..1_000_000_000 => format!("{:.0} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// Bytes as `512 B`, `33.1 KiB` or `1.2 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    let value = number as f64;
    match number {
        0..1_024 => format!("{number} B"),
        1_024..1_048_576 => format!("{:.1} KiB", value / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.2} GiB", value / 1_073_741_824.0),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("s").is_err());
        assert!(parse_duration("-1s").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("128"), Ok(128));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1m"), Ok(1_048_576));
        assert!(parse_size("1x").is_err());
        assert!(parse_size("99999999999999999999").is_err());
    }

    #[test]
    fn a_share_is_a_percentage_and_leaves_readers() {
        assert_eq!(parse_share("1%"), Ok(0.01));
        assert!(parse_share("1").is_err());
        assert!(parse_share("100%").is_err());
        assert!(parse_share("NaN%").is_err());
    }

    #[test]
    fn a_rate_is_positive() {
        assert_eq!(parse_rate("2.5"), Ok(2.5));
        for bad in ["0", "-1", "NaN", "1e9", "x"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn figures_are_grouped_and_scaled() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(latency(850_000), "850 us");
        assert_eq!(latency(12_340_000), "12.3 ms");
        assert_eq!(bytes(1_536), "1.5 KiB");
    }
}
