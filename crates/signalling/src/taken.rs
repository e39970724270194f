//! Who holds an address: `/proc/net/tcp` gives the listening socket's inode, `/proc/<pid>/fd` its process.
//!
//! Reads only; what cannot be read (another user's process) is left out of the answer.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// Whoever holds a socket, as far as `/proc` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// A process whose descriptors may not be read, or that is gone by now.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "{name} (process {pid})"),
            Self::Unknown => f.write_str("a process that cannot be named from here"),
        }
    }
}

/// The process that listens where `address` wants to.
pub fn holder(address: SocketAddr) -> Holder {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, address));
    inode.and_then(process_of).unwrap_or(Holder::Unknown)
}

/// Finds the inode of a listening socket that excludes `address`; the table's form is that of proc(5).
fn listening_inode(table: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (ip, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let ip = parse_ip(ip)?;
        let same = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
        (state == LISTEN && u16::from_str_radix(port, 16).ok()? == address.port() && same).then_some(inode)
    })
}

/// The kernel prints each 32-bit word of an address in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for word in hex.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

fn process_of(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(entry.path().join("fd"))
            .ok()?
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()));
        holds.then(|| Holder::Process { pid, name: name_of(&entry.path()) })
    })
}

/// The program's name; the kernel's own (`comm`) is cut after 15 bytes.
fn name_of(process: &Path) -> String {
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let program = command.split(|&byte| byte == 0).next().unwrap_or_default();
    match String::from_utf8_lossy(program).rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let Holder::Process { pid, .. } = holder(listener.local_addr().unwrap()) else { panic!("not found") };
        assert_eq!(pid, std::process::id());
    }

    #[test]
    fn tables_are_read_as_proc_5_says() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1BA8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
                     1: 0100007F:1BA9 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        let find = |address: &str| listening_inode(table, address.parse().unwrap());
        assert_eq!(find("127.0.0.1:7080"), Some(4711));
        assert_eq!(find("0.0.0.0:7080"), Some(4711));
        assert_eq!(find("127.0.0.2:7080"), None);
        assert_eq!(find("127.0.0.1:7081"), None, "a connection is no listener");
    }
}
