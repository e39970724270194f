//! The addresses of a network namespace: `/proc/<pid>/net/fib_trie` and `if_inet6`. What only this namespace can use
//! (loopback, link-local) is left out.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The local addresses of a routing table in `fib_trie`'s form: a leaf's line names the prefix, the next ones what it is.
fn parse_v4(trie: &str) -> BTreeSet<IpAddr> {
    let (mut found, mut leaf) = (BTreeSet::new(), None);
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(leaf.filter(|ip| !ip.is_loopback()).map(IpAddr::from));
        }
    }
    found
}

/// The addresses of `if_inet6`: 32 hexadecimal digits at the beginning of each line.
fn parse_v6(table: &str) -> Option<BTreeSet<IpAddr>> {
    let address = |line: &str| u128::from_str_radix(line.get(..32)?, 16).ok().map(Ipv6Addr::from);
    let all: Option<Vec<Ipv6Addr>> =
        table.lines().filter(|line| !line.trim().is_empty()).map(address).collect();
    let outside = all?.into_iter().filter(|ip| !ip.is_loopback() && !ip.is_unicast_link_local());
    Some(outside.map(IpAddr::from).collect())
}

/// Every address under which others can reach this process, if they are in one of its networks.
pub(crate) fn read(pid: u32) -> Result<BTreeSet<IpAddr>, String> {
    let text = |name: &str| {
        let path = format!("/proc/{pid}/net/{name}");
        match fs::read_to_string(&path) {
            // A kernel without IPv6.
            Err(error) if name == "if_inet6" && error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| format!("{path}: {error}")),
        }
    };
    let mut found = parse_v4(&text("fib_trie")?);
    let table = text("if_inet6")?;
    found.extend(parse_v6(&table).ok_or_else(|| format!("/proc/{pid}/net/if_inet6 has another form"))?);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.77.0.0/17 2 0 2
        +-- 10.77.0.0/29 2 0 2
           |-- 10.77.0.0
              /17 link UNICAST
           |-- 10.77.0.2
              /32 host LOCAL
        |-- 10.77.127.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
Local:
           |-- 10.77.0.2
              /32 host LOCAL
           |-- 10.77.132.3
              /32 host LOCAL
";

    #[test]
    fn the_addresses_of_a_captured_table_are_found_and_loopback_is_not() {
        let expected = ["10.77.0.2", "10.77.132.3"].map(|text| text.parse().unwrap());
        assert_eq!(parse_v4(TRIE), BTreeSet::from(expected));
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
            fd000000000000000000000000000002 04 40 00 82     eth0\n";
        assert_eq!(parse_v6(table), Some(BTreeSet::from(["fd00::2".parse().unwrap()])));
        assert_eq!(parse_v6("what\n"), None);
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(read(u32::MAX - 1).unwrap_err().starts_with("/proc/"));
        assert!(read(std::process::id()).is_ok());
    }
}
