//! Did-you-mean.

/// What to write instead of `wrong`: the known name that is nearest by far, else all of them.
pub(crate) fn instead<'a>(wrong: &str, known: impl Iterator<Item = &'a str>, these: &str) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let known: Vec<_> = known.filter(|name| seen.insert(*name)).collect();
    if let Some(name) = nearest(wrong, &known) {
        return format!("did you mean `{name}`?");
    }
    if known.is_empty() {
        return String::new();
    }
    let shown = 12;
    let mut list = known.iter().take(shown).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if known.len() > shown {
        list.push_str(", ...");
    }
    format!("{these} {list}")
}

/// The known name within a third of its length in edits (Damerau and Levenshtein), or with the same letters in another
/// case.
pub(crate) fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    // Edit distance is quadratic; nothing longer than a name can be near one.
    if wrong.len() > 100 {
        return None;
    }
    let folded = wrong.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["memory", "max_segment", "cpus"];
        assert_eq!(nearest("memmory", &known), Some("memory"));
        assert_eq!(nearest("CPUS", &known), Some("cpus"));
        assert_eq!(nearest("latency", &known), None);
        assert_eq!(
            instead("x", known.into_iter().chain(known), "the keys are"),
            "the keys are `memory`, `max_segment`, `cpus`"
        );
    }
}
