//! Who listens on an address: the kernel's socket tables, and the process behind a socket. Read only.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{account::user_name, proc};

/// Field 4 of a listening socket in `/proc/net/tcp` (TCP_LISTEN).
const LISTEN: &str = "0A";

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

/// Every listening TCP socket of this network namespace.
pub(crate) struct Listeners(Vec<Listener>);

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Unknown where this user may not look into the process.
    pub(crate) pid: Option<u32>,
    /// For a message.
    pub(crate) text: String,
}

impl Listeners {
    /// Reads the tables.
    pub(crate) fn read() -> Self {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        Self(tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(parse).collect())
    }

    fn at(&self, wanted: SocketAddr) -> Option<&Listener> {
        self.0.iter().find(|listener| collide(listener.address, wanted))
    }

    /// Everyone who listens on one of these addresses, or on a wildcard that covers it.
    pub(crate) fn holders<'a, T>(
        &self,
        wanted: impl IntoIterator<Item = (T, SocketAddr)> + 'a,
    ) -> Vec<(T, SocketAddr, Holder)> {
        let taken: Vec<_> = wanted
            .into_iter()
            .filter_map(|(who, address)| Some((who, address, *self.at(address)?)))
            .collect();
        if taken.is_empty() {
            return Vec::new();
        }
        let owners = owners();
        taken
            .into_iter()
            .map(|(who, address, listener)| {
                let pid = owners.get(&listener.inode).copied();
                let text = match pid {
                    Some(pid) => format!(
                        "process {pid} ({})",
                        proc::command(pid).unwrap_or_else(|| "already gone".into())
                    ),
                    None => format!("a process of user {}", user_name(listener.uid)),
                };
                (who, address, Holder { pid, text })
            })
            .collect()
    }
}

/// Binding one while the other listens fails: same port, same address or one of them a wildcard.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, ip: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && ip.is_ipv4(),
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// Socket inode to process, for every process that this user may look into.
fn owners() -> HashMap<u64, u32> {
    let mut owners = HashMap::new();
    for pid in proc::all() {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for target in descriptors.filter_map(Result::ok).filter_map(|entry| fs::read_link(entry.path()).ok())
        {
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                owners.entry(inode).or_insert(pid);
            }
        }
    }
    owners
}

/// One line of the table, if it is a listener (`Documentation/networking/proc_net_tcp.rst`).
fn parse(line: &str) -> Option<Listener> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits in the machine's own order.
    let words: Vec<_> = (0..ip.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip: IpAddr = match words.as_slice() {
        [word] => Ipv4Addr::from(*word).into(),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            let v6 = Ipv6Addr::from(bytes);
            v6.to_ipv4_mapped().map_or(v6.into(), Into::into)
        }
        _ => return None,
    };
    Some(Listener {
        address: (ip, port).into(),
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn names_the_process_that_listens() {
        let listener = TcpListener::bind("127.80.250.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let found = Listeners::read().holders([("peer-1", address)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].2.pid, Some(std::process::id()));
        assert!(found[0].2.text.contains(&std::process::id().to_string()));
        drop(listener);
        assert!(Listeners::read().holders([("peer-1", address)]).is_empty());
    }

    #[test]
    fn a_wildcard_takes_every_address() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(Listeners::read().holders([((), ([127, 80, 250, 2], port).into())]).len(), 1);
        // A machine may have no IPv6.
        let Ok(six) = TcpListener::bind("[::]:0") else { return };
        let port = six.local_addr().unwrap().port();
        assert_eq!(Listeners::read().holders([((), ([127, 80, 250, 2], port).into())]).len(), 1);
    }

    #[test]
    fn another_address_or_port_is_free() {
        let [a, b, c] = ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        assert!(collide(a, a) && !collide(a, b) && !collide(a, c));
    }
}
