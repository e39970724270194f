//! How a peer proves to its neighbour that a relay request is its own: an HMAC-SHA256 (RFC 2104) with the link's key.
//!
//! ```text
//! Authorization: Hopcast-HMAC-SHA256 peer="peer-1", date="1790000000", mac="<64 hexadecimal digits>"
//! ```
//!
//! The MAC covers method, path, `Range` (empty where absent), sender and date (Unix seconds), each followed by a newline.

use hmac::{Hmac, KeyInit as _, Mac as _};

use crate::{
    content::{from_hex, to_hex},
    keys::LinkKey,
    limits::CLOCK_WINDOW,
    name::PeerName,
};

const SCHEME: &str = "Hopcast-HMAC-SHA256";

/// Why a relay request's `Authorization` is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no such header.
    #[error("no Authorization header")]
    Missing,
    /// The header does not have the form that the module's documentation shows.
    #[error("an Authorization header that is not {SCHEME}")]
    Malformed,
    /// The date is further from the receiver's clock than [`CLOCK_WINDOW`].
    #[error("a date outside the 30 s window")]
    Stale,
    /// Another key, or something was changed.
    #[error("a wrong MAC")]
    Mac,
}

/// A parsed `Authorization` header. Nothing in it is proven before [`RelayAuth::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAuth {
    /// Who claims to have sent the request.
    pub peer: PeerName,
    /// When, in Unix seconds.
    pub date: u64,
    mac: [u8; 32],
}

fn mac(
    key: &LinkKey,
    method: &str,
    path: &str,
    range: &str,
    peer: &PeerName,
    date: u64,
) -> Hmac<sha2::Sha256> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
    for field in [method, path, range, peer.as_str(), &date.to_string()] {
        mac.update(field.as_bytes());
        mac.update(b"\n");
    }
    mac
}

impl RelayAuth {
    /// The header's value for a request. `range` is the `Range` header's value, empty where there is none.
    pub fn sign(key: &LinkKey, method: &str, path: &str, range: &str, peer: &PeerName, date: u64) -> String {
        let code = to_hex(&mac(key, method, path, range, peer, date).finalize().into_bytes());
        format!("{SCHEME} peer=\"{peer}\", date=\"{date}\", mac=\"{code}\"")
    }

    /// Reads the header's value.
    pub fn parse(header: Option<&str>) -> Result<Self, AuthError> {
        let rest = header.ok_or(AuthError::Missing)?.strip_prefix(SCHEME).ok_or(AuthError::Malformed)?;
        let mut fields = rest.split(',').map(|field| {
            let (name, value) = field.trim().split_once('=')?;
            Some((name, value.strip_prefix('"')?.strip_suffix('"')?))
        });
        let mut field = |wanted| match fields.next() {
            Some(Some((name, value))) if name == wanted => Ok(value),
            _ => Err(AuthError::Malformed),
        };
        let peer = PeerName::new(field("peer")?).map_err(|_| AuthError::Malformed)?;
        let date = field("date")?.parse().map_err(|_| AuthError::Malformed)?;
        let mac = from_hex(field("mac")?).map_err(|_| AuthError::Malformed)?;
        Ok(Self { peer, date, mac })
    }

    /// Checks the request against the link's key and the receiver's clock (Unix seconds).
    pub fn verify(
        &self,
        key: &LinkKey,
        method: &str,
        path: &str,
        range: &str,
        now: u64,
    ) -> Result<(), AuthError> {
        mac(key, method, path, range, &self.peer, self.date)
            .verify_slice(&self.mac)
            .map_err(|_| AuthError::Mac)?;
        if now.abs_diff(self.date) > CLOCK_WINDOW.as_secs() {
            return Err(AuthError::Stale);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_exactly_what_was_signed() {
        let (key, peer) = (LinkKey([1; 32]), PeerName::new("peer-1").unwrap());
        let header = RelayAuth::sign(&key, "GET", "/relay/e-1/sha256/00", "bytes=5-", &peer, 1000);
        let auth = RelayAuth::parse(Some(&header)).unwrap();
        let check = |key: &LinkKey, method, path, range, now| auth.verify(key, method, path, range, now);
        assert_eq!(check(&key, "GET", "/relay/e-1/sha256/00", "bytes=5-", 1030), Ok(()));
        assert_eq!(check(&key, "GET", "/relay/e-1/sha256/00", "bytes=5-", 1031), Err(AuthError::Stale));
        assert_eq!(check(&key, "GET", "/relay/e-1/sha256/00", "bytes=5-", 969), Err(AuthError::Stale));
        assert_eq!(check(&key, "HEAD", "/relay/e-1/sha256/00", "bytes=5-", 1000), Err(AuthError::Mac));
        assert_eq!(check(&key, "GET", "/relay/e-2/sha256/00", "bytes=5-", 1000), Err(AuthError::Mac));
        assert_eq!(check(&key, "GET", "/relay/e-1/sha256/00", "", 1000), Err(AuthError::Mac));
        assert_eq!(
            check(&LinkKey([2; 32]), "GET", "/relay/e-1/sha256/00", "bytes=5-", 1000),
            Err(AuthError::Mac)
        );
        let other = RelayAuth { peer: PeerName::new("peer-2").unwrap(), ..auth.clone() };
        assert_eq!(other.verify(&key, "GET", "/relay/e-1/sha256/00", "bytes=5-", 1000), Err(AuthError::Mac));
    }

    #[test]
    fn malformed_headers_are_refused() {
        assert_eq!(RelayAuth::parse(None), Err(AuthError::Missing));
        for bad in [
            "",
            "Bearer x",
            "Hopcast-HMAC-SHA256",
            "Hopcast-HMAC-SHA256 peer=\"a\"",
            "Hopcast-HMAC-SHA256 peer=a, date=1, mac=2",
        ] {
            assert_eq!(RelayAuth::parse(Some(bad)), Err(AuthError::Malformed), "{bad}");
        }
    }
}
