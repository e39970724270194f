//! Binds addresses; says who holds a taken one.

use tokio::net::TcpListener;

use crate::{config::Listen, error::BindError, taken};

/// Binds the first address that can be.
pub async fn bind(listen: &Listen) -> Result<TcpListener, BindError> {
    let other = |error| BindError::Other { address: listen.to_string(), error };
    let mut last = std::io::Error::other("the name has no address");
    for address in listen.addresses().await.map_err(other)? {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(BindError::Taken { address, holder: taken::holder(address) });
            }
            Err(error) => last = error,
        }
    }
    Err(other(last))
}

/// Raises the soft limit of open files to the hard one and returns it: every connection is one.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current }
}
