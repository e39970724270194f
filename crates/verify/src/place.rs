//! From where a connection is dialled: a check that says "not from there" must try it from there.
//!
//! Where every process has a network of its own, a place is the network namespace of a process. A socket belongs to the
//! namespace in which it was made, wherever it is used afterwards (network_namespaces(7)). So a thread enters the
//! namespace, makes the socket, and ends; no other thread of this process ever leaves its own.

use std::{
    fmt, fs,
    io::{self, Error},
    net::{IpAddr, SocketAddr, TcpStream as StdStream},
    thread,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::oneshot,
};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where this process is, from the address that the system chooses.
    Here,
    /// An address of this machine.
    Address(IpAddr),
    /// The network namespace of a process, from the address that the system chooses there.
    Inside(u32),
}

/// Fits after "X" in "X at 127.77.0.3".
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("on this machine"),
            Self::Address(ip) => write!(f, "at {ip}"),
            Self::Inside(pid) => write!(f, "inside process {pid}"),
        }
    }
}

impl Place {
    /// A socket that dials from here.
    pub(crate) async fn socket(self, to: SocketAddr) -> io::Result<TcpSocket> {
        let new = || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        match self {
            Self::Here => new(),
            Self::Address(ip) => {
                let socket = new()?;
                socket.bind(SocketAddr::new(ip, 0))?;
                Ok(socket)
            }
            Self::Inside(pid) => {
                let (send, receive) = oneshot::channel();
                let name = format!("inside-{pid}");
                // Whoever waited may have given up; then nobody needs the socket.
                thread::Builder::new().name(name).spawn(move || drop(send.send(inside(pid, to))))?;
                receive.await.unwrap_or_else(|_| Err(Error::other("its thread has ended")))
            }
        }
    }

    /// Connects from here.
    pub(crate) async fn dial(self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.socket(to).await?.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Makes a socket in the network namespace of a process. The calling thread stays there.
fn inside(pid: u32, to: SocketAddr) -> io::Result<TcpSocket> {
    let doing = |what: &str, error: io::Error| {
        Error::new(error.kind(), format!("cannot {what} the network of process {pid}: {error}"))
    };
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(path).map_err(|error| doing("find", error))?;
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network)
        .map_err(|error| doing("enter", error.into()))?;
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    Ok(TcpSocket::from_std_stream(StdStream::from(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_of_ones_own_choice_is_dialled_from() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let from = IpAddr::from([127, 81, 60, 9]);
        let stream = Place::Address(from).dial(to).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), from);
        assert!(Place::Here.dial(to).await.is_ok());
    }

    #[tokio::test]
    async fn a_process_that_is_gone_has_no_inside() {
        let to = "127.0.0.1:9".parse().unwrap();
        let error = Place::Inside(u32::MAX - 1).dial(to).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("cannot find the network of process"), "{error}");
    }
}
