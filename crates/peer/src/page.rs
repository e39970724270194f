//! The page at `/`: an audio element and the hops of the last segment. Small, without libraries, nothing from outside.

use crate::node::Node;

const HEAD: &str = include_str!("page.html");

/// The page, for `song` or the first one known.
pub(crate) fn page(node: &Node, query: Option<&str>) -> String {
    let asked = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("song="));
    let song = asked
        .and_then(|song| hopcast_protocol::SongName::new(song).ok())
        .or_else(|| node.manifests.songs().into_iter().next());
    // A name is letters, digits, `.`, `_` and `-`: nothing that HTML would want escaped.
    HEAD.replace("{peer}", node.config().name.as_str())
        .replace("{song}", song.as_ref().map_or("demo", |song| song.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_from_nowhere_else() {
        assert!(HEAD.len() <= 3 * 1024, "{} bytes", HEAD.len());
        assert!(!HEAD.contains("://"));
        assert!(HEAD.contains("{peer}") && HEAD.contains("{song}"));
    }
}
