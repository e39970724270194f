//! The names of replication slots. Pure.

use hopcast_protocol::{DatabaseName, MeshName, Sha256};

/// PostgreSQL's longest name (NAMEDATALEN - 1), in bytes.
const NAME_BYTES: usize = 63;

/// The slot on the origin that feeds an edge: `hopcast_<mesh>_<edge>`, `-` written as `_`.
///
/// Slot names take lower-case letters, digits and `_` only (PostgreSQL manual 27.2.6.1). Where anything but a `-` had to
/// change, or the name is too long, eight hexadecimal digits of a hash of both names keep it unique.
pub fn slot_name(mesh: &MeshName, edge: &DatabaseName) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wanted = format!("hopcast_{mesh}_{edge}");
    let mut slot: String = wanted
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        })
        .collect();
    if wanted.len() > NAME_BYTES || !(mesh.as_str().chars().all(plain) && edge.as_str().chars().all(plain)) {
        let hash = Sha256::of(format!("{mesh}/{edge}").as_bytes()).to_string();
        slot.truncate(NAME_BYTES - 9); // all ASCII: any index is a boundary
        slot.push('_');
        slot.push_str(&hash[..8]);
    }
    slot
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn slot(mesh: &str, edge: &str) -> String {
        slot_name(&MeshName::new(mesh).unwrap(), &DatabaseName::new(edge).unwrap())
    }

    #[test]
    fn ordinary_names_stay_readable() {
        assert_eq!(slot("hopcast", "edge-db-a"), "hopcast_hopcast_edge_db_a");
    }

    #[test]
    fn every_name_gives_its_own_valid_slot() {
        let long = "x".repeat(63);
        let edges =
            ["edge-a", "edge_a", "edge.a", "Edge-a", "EDGE-A", "edge--a", &long, &format!("{}y", &long[1..])];
        let slots: HashSet<String> = edges.iter().map(|edge| slot("m", edge)).collect();
        assert_eq!(slots.len(), edges.len(), "{slots:?}");
        for slot in slots {
            assert!(slot.len() <= 63, "{slot}");
            assert!(slot.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{slot}");
        }
    }
}
