//! `/proc/<pid>/net/tcp` and `tcp6`: the TCP sockets of a network namespace. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The states that matter here (include/net/tcp_states.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// `0A`: no connection.
    Listen,
    /// `06`: closed, kept for a while; belongs to no process any more (inode 0).
    TimeWait,
    /// Any other: it carries bytes, or did, or is about to.
    Connection,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) state: State,
    /// 0 where no process has it open.
    pub(crate) inode: u64,
}

/// Reads one table. A line of another form is an error: better no audit than a blind one.
pub(crate) fn parse(table: &str) -> Result<Vec<Socket>, String> {
    let lines = table.lines().skip(1).filter(|line| !line.trim().is_empty());
    lines.map(|line| socket(line).ok_or_else(|| format!("not a line of /proc/net/tcp: `{line}`"))).collect()
}

fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let remote = address(fields.next()?)?;
    let state = match fields.next()? {
        "0A" => State::Listen,
        "06" => State::TimeWait,
        _ => State::Connection,
    };
    // Then: queues, timer, retransmits, uid, timeout, inode.
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Socket { local, remote, state, inode })
}

/// `0100007F:1F90`: the address as 32-bit words in the machine's order, the port in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut bytes = [0; 16];
            for (i, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(ip.get(8 * i..8 * i + 8)?)?);
            }
            // A dual-stack socket shows IPv4 as ::ffff:a.b.c.d.
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n   \
0: 1E004D7F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 511023 1 0000000000000000 100 0 0 10 0                     \n   \
1: 1E004D7F:1F90 12004D7F:B3C6 01 00000000:00000000 02:00000A2E 00000000 65534        0 511201 2 0000000000000000 20 4 30 10 -1                    \n   \
2: 0100007F:A1B2 1E004D7F:1F90 06 00000000:00000000 03:000014B5 00000000     0        0 0 3 0000000000000000                                      \n";

    const TABLE6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 38018 1 0000000000000000 100 0 0 10 0\n   \
1: 0000000000000000FFFF00001E004D7F:1F90 0000000000000000FFFF00000100007F:D903 01 00000000:00000000 00:00000000 00000000  1000        0 38020 1 0000000000000000 20 4 30 10 -1\n";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_captured_table_is_read() {
        let sockets = parse(TABLE).unwrap();
        let expected = [
            ("127.77.0.30:8080", "0.0.0.0:0", State::Listen, 511_023),
            ("127.77.0.30:8080", "127.77.0.18:46022", State::Connection, 511_201),
            ("127.0.0.1:41394", "127.77.0.30:8080", State::TimeWait, 0),
        ];
        let expected = expected.map(|(local, remote, state, inode)| Socket {
            local: at(local),
            remote: at(remote),
            state,
            inode,
        });
        assert_eq!(sockets, expected);
    }

    #[test]
    fn ipv4_in_the_table_of_ipv6_is_ipv4() {
        let sockets = parse(TABLE6).unwrap();
        assert_eq!(sockets[0].local, at("[::1]:8080"));
        assert_eq!(sockets[1].local, at("127.77.0.30:8080"));
        assert_eq!(sockets[1].remote, at("127.0.0.1:55555"));
    }

    #[test]
    fn an_unknown_form_is_an_error() {
        assert_eq!(parse("header\n"), Ok(vec![]));
        assert!(parse("header\n 0: what:ever 01\n").is_err());
    }

    #[test]
    fn this_kernels_table_is_read() {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        parse(&table).unwrap();
    }
}
