//! What hopcast costs, beside what it is compared with, in the same run.
//!
//! Every bench starts the real programs as processes, measures hopcast and the other side in turn, and reports the ratio
//! of the medians. It never links the signalling server's or the peer's code, and it asserts nothing: it prints.

pub mod deploy;
pub mod play;
pub mod programs;
pub mod start;
pub mod stop;

/// The middle value; of an even number the lower of the two. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.0));
    }
}
