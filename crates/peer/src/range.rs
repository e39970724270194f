//! `Range` and `Content-Range` (RFC 9110 14): one range of bytes, or the whole.
//!
//! Pure. What RFC 9110 allows to be ignored (several ranges, other units, nonsense) is ignored: the whole is served.

/// What a request wants of `len` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no `Range`, or one that may be ignored.
    Whole,
    /// From the first to the last byte, both included; `start <= end < len`.
    Part {
        /// First byte.
        start: u64,
        /// Last byte.
        end: u64,
    },
    /// A range that begins beyond the end: 416.
    Beyond,
}

/// Reads a `Range` header against a representation of `len` bytes.
pub fn wanted(header: Option<&str>, len: u64) -> Wanted {
    let Some(header) = header else { return Wanted::Whole };
    parse(header, len).unwrap_or(Wanted::Whole)
}

fn parse(header: &str, len: u64) -> Option<Wanted> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        let suffix = digits(last)?;
        return Some(match suffix {
            0 => Wanted::Beyond,
            _ if len == 0 => Wanted::Beyond,
            _ => Wanted::Part { start: len.saturating_sub(suffix), end: len - 1 },
        });
    }
    let start = digits(first)?;
    let end = if last.is_empty() { u64::MAX } else { digits(last)? };
    if end < start {
        return None;
    }
    if start >= len {
        return Some(Wanted::Beyond);
    }
    Some(Wanted::Part { start, end: end.min(len - 1) })
}

fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take a plus sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// The `Range` that asks for everything from `start` on.
pub fn from_byte(start: u64) -> String {
    format!("bytes={start}-")
}

/// A `Content-Range` of a part.
pub fn content_range(start: u64, end: u64, len: u64) -> String {
    format!("bytes {start}-{end}/{len}")
}

/// Reads a `Content-Range`: first byte, last byte, length of the whole.
pub fn parse_content_range(header: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, len) = (digits(start)?, digits(end)?, digits(len)?);
    (start <= end && end < len).then_some((start, end, len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9110() {
        assert_eq!(wanted(Some("bytes=0-499"), 10_000), Wanted::Part { start: 0, end: 499 });
        assert_eq!(wanted(Some("bytes=500-999"), 10_000), Wanted::Part { start: 500, end: 999 });
        assert_eq!(wanted(Some("bytes=-500"), 10_000), Wanted::Part { start: 9500, end: 9999 });
        assert_eq!(wanted(Some("bytes=9500-"), 10_000), Wanted::Part { start: 9500, end: 9999 });
        assert_eq!(wanted(Some("bytes=10000-"), 10_000), Wanted::Beyond);
        assert_eq!(wanted(Some("bytes=-0"), 10_000), Wanted::Beyond);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Beyond);
    }

    #[test]
    fn what_may_be_ignored_is_ignored() {
        for odd in ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"]
        {
            assert_eq!(wanted(Some(odd), 100), Wanted::Whole, "{odd}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_inside_and_is_what_was_asked(start in 0u64..300, span in 0u64..300, len in 0u64..300) {
            match wanted(Some(&format!("bytes={start}-{}", start + span)), len) {
                Wanted::Beyond => prop_assert!(start >= len),
                Wanted::Part { start: s, end } => {
                    prop_assert_eq!(s, start);
                    prop_assert_eq!(end, (start + span).min(len - 1));
                    let text = content_range(s, end, len);
                    prop_assert_eq!(parse_content_range(&text), Some((s, end, len)));
                }
                Wanted::Whole => prop_assert!(false, "a valid range was ignored"),
            }
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,40}", len in 0u64..100) {
            if let Wanted::Part { start, end } = wanted(Some(&text), len) {
                prop_assert!(start <= end && end < len);
            }
            let _ = parse_content_range(&text);
        }

        #[test]
        fn huge_numbers_saturate(zeros in 1usize..40) {
            let text = format!("bytes=1{}-", "0".repeat(zeros + 2));
            prop_assert_eq!(wanted(Some(&text), 50), Wanted::Beyond);
        }
    }
}
