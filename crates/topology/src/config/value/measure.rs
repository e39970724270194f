//! Sizes, durations and rates: a number and a unit. Integer arithmetic only, so that what is written is what is meant.

use super::{Mistake, Word};

/// Splits `1.5MiB` into its number, as digits and how many of them are decimals, and its unit.
fn quantity(text: &str) -> Option<(u128, u32, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    // 12 digits each: no unit makes that overflow 128 bits.
    if whole.is_empty() || whole.len() > 12 || decimals.len() > 12 || number.ends_with('.') {
        return None;
    }
    let digits = format!("{whole}{decimals}").parse().ok()?;
    Some((digits, decimals.len() as u32, unit.trim_start()))
}

/// A quantity in its smallest unit, by a table of units.
fn measure(text: &str, units: &[(&str, u128)]) -> Option<u64> {
    let (digits, decimals, unit) = quantity(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    u64::try_from(digits * factor / 10u128.pow(decimals)).ok()
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

impl Word for Size {
    const NAME: &'static str = "Size";
    const EXPECTED: &'static str = "a size such as \"15MiB\"";
    const CODE: &'static str = "bad-size";
    const PATTERN: &'static str = r"^[0-9]{1,12}(\.[0-9]{1,12})? ?(B|kB|KiB|MB|MiB|GB|GiB)$";
    const EXAMPLE: &'static str = "15MiB";

    fn parse(text: &str) -> Result<Self, Mistake> {
        const UNITS: &[(&str, u128)] = &[
            ("B", 1),
            ("kB", 1000),
            ("KiB", 1 << 10),
            ("MB", 1_000_000),
            ("MiB", 1 << 20),
            ("GB", 1_000_000_000),
            ("GiB", 1 << 30),
        ];
        measure(text, UNITS).map(Self).ok_or_else(|| {
            let units = "write a number and one of B, kB, KiB, MB, MiB, GB, GiB, such as \"15MiB\"";
            Mistake::new(format!("`{}` is not a size", text.escape_default()), units)
        })
    }
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) u64);

impl Word for Time {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a duration such as \"20ms\"";
    const CODE: &'static str = "bad-duration";
    const PATTERN: &'static str = r"^[0-9]{1,12}(\.[0-9]{1,12})? ?(us|ms|s|min)$";
    const EXAMPLE: &'static str = "20ms";

    fn parse(text: &str) -> Result<Self, Mistake> {
        const UNITS: &[(&str, u128)] = &[("us", 1), ("ms", 1000), ("s", 1_000_000), ("min", 60_000_000)];
        measure(text, UNITS).map(Self).ok_or_else(|| {
            let units = "write a number and one of us, ms, s, min, such as \"20ms\"";
            Mistake::new(format!("`{}` is not a duration", text.escape_default()), units)
        })
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(pub(crate) u64);

impl Word for Rate {
    const NAME: &'static str = "Rate";
    const EXPECTED: &'static str = "a rate such as \"10Mbit/s\"";
    const CODE: &'static str = "bad-rate";
    const PATTERN: &'static str =
        r"^[0-9]{1,12}(\.[0-9]{1,12})? ?(bit/s|kbit/s|Mbit/s|Gbit/s|B/s|kB/s|KiB/s|MB/s|MiB/s)$";
    const EXAMPLE: &'static str = "10Mbit/s";

    fn parse(text: &str) -> Result<Self, Mistake> {
        // In bits, so that every unit is whole.
        const UNITS: &[(&str, u128)] = &[
            ("bit/s", 1),
            ("kbit/s", 1000),
            ("Mbit/s", 1_000_000),
            ("Gbit/s", 1_000_000_000),
            ("B/s", 8),
            ("kB/s", 8000),
            ("KiB/s", 8 << 10),
            ("MB/s", 8_000_000),
            ("MiB/s", 8 << 20),
        ];
        measure(text, UNITS).map(|bits| Self(bits / 8)).ok_or_else(|| {
            let units = "write a number and one of bit/s, kbit/s, Mbit/s, Gbit/s, B/s, kB/s, KiB/s, MB/s, MiB/s, such as \
                         \"10Mbit/s\" (`mbps` means bits to some tools and bytes to others)";
            Mistake::new(format!("`{}` is not a rate", text.escape_default()), units)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(Size::parse("15MiB"), Ok(Size(15 << 20)));
        assert_eq!(Size::parse("1.5 KiB"), Ok(Size(1536)));
        assert_eq!(Size::parse("0.1MB"), Ok(Size(100_000)));
        assert_eq!(Size::parse("7B"), Ok(Size(7)));
        for bad in [
            "",
            "15",
            "15M",
            "15mib",
            "MiB",
            "-1MiB",
            "1..5MiB",
            "1.MiB",
            ".5MiB",
            "1,5MiB",
            "9999999999999B",
        ] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
        assert!(Size::parse("999999999999GiB").is_err(), "past 64 bits");
    }

    #[test]
    fn durations_in_microseconds() {
        assert_eq!(Time::parse("20ms"), Ok(Time(20_000)));
        assert_eq!(Time::parse("0.5s"), Ok(Time(500_000)));
        assert_eq!(Time::parse("2min"), Ok(Time(120_000_000)));
        assert_eq!(Time::parse("7us"), Ok(Time(7)));
        assert!(Time::parse("20").is_err() && Time::parse("20m").is_err());
    }

    #[test]
    fn rates_in_bytes_a_second() {
        assert_eq!(Rate::parse("10Mbit/s"), Ok(Rate(1_250_000)));
        assert_eq!(Rate::parse("1.5 MB/s"), Ok(Rate(1_500_000)));
        assert_eq!(Rate::parse("2KiB/s"), Ok(Rate(2048)));
        assert!(Rate::parse("10mbps").is_err() && Rate::parse("10Mbit").is_err());
    }
}
