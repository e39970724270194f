//! Binds addresses; says who holds a taken one.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::{config::Listen, error::BindError, taken};

/// Connections that may wait to be accepted; the kernel allows `net.core.somaxconn` at most (listen(2)). After a restart
/// all clients come back at once: those that find the queue full are answered with SYN cookies, try again after a second, or are
/// reset. What waits costs the kernel nothing until it is there.
const BACKLOG: u32 = 4096;

/// Binds the first address that can be.
pub async fn bind(listen: &Listen) -> Result<TcpListener, BindError> {
    let other = |error| BindError::Other { address: listen.to_string(), error };
    let mut last = io::Error::other("the name has no address");
    for address in listen.addresses().await.map_err(other)? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::Taken { address, holder: taken::holder(address) });
            }
            Err(error) => last = error,
        }
    }
    Err(other(last))
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server takes the address again at once, whatever still waits for its last packets there.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the soft limit of open files to the hard one and returns it: every connection is one.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpStream, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_thousand_clients_that_come_at_once_wait_their_turn() {
        const CLIENTS: usize = 1500;
        assert!(raise_open_files().is_none_or(|files| files > 2 * CLIENTS as u64));
        let listener = listen_at(([127, 84, 101, 1], 0).into()).unwrap();
        let at = listener.local_addr().unwrap();
        // Nobody accepts: each stays in the queue, or finds it full and hears nothing for a second.
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(timeout(Duration::from_secs(30), TcpStream::connect(at)).await.unwrap().unwrap());
        }
        for _ in 0..CLIENTS {
            timeout(Duration::from_secs(30), listener.accept()).await.unwrap().unwrap();
        }
    }
}
