//! `Via` (RFC 9110 7.6.3): who passed the bytes on, the holder first, the requester last.

use http::HeaderMap;

/// The names of all `Via` entries in their order, over all header lines.
pub(crate) fn names(headers: &HeaderMap) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for value in headers.get_all("via") {
        let text = value.to_str().map_err(|_| "a Via that is not text".to_owned())?;
        for entry in text.split(',') {
            let mut words = entry.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("1.1" | "HTTP/1.1"), Some(name)) => names.push(name.to_owned()),
                _ => return Err(format!("`{entry}` is no entry of a Via")),
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_or_several_lines_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append("via", "1.1 peer-1, 1.1 peer-6".parse().unwrap());
        headers.append("via", "1.1 peer-30 (hopcast)".parse().unwrap());
        assert_eq!(names(&headers).unwrap(), ["peer-1", "peer-6", "peer-30"]);
        assert_eq!(names(&HeaderMap::new()).unwrap(), [""; 0]);
        headers.append("via", "peer-30".parse().unwrap());
        assert!(names(&headers).is_err());
    }
}
