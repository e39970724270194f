//! Networks and addresses.

use std::net::{Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;

use super::{Mistake, Word};

/// An IPv4 network, written as its first address and prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Net(pub(crate) Ipv4Net);

impl Word for Net {
    const NAME: &'static str = "Network";
    const EXPECTED: &'static str = "a network such as \"127.77.0.0/16\"";
    const CODE: &'static str = "bad-network";
    const PATTERN: &'static str = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$";
    const EXAMPLE: &'static str = "127.77.0.0/16";

    fn parse(text: &str) -> Result<Self, Mistake> {
        let help = "write its first address, `/` and the prefix length, such as \"127.77.0.0/16\"";
        let net: Ipv4Net = text
            .parse()
            .map_err(|_| Mistake::new(format!("`{}` is not an IPv4 network", text.escape_default()), help))?;
        if net.trunc() != net {
            let message = format!("`{text}` is an address inside a network, not the network");
            return Err(Mistake::new(message, format!("write \"{}\"", net.trunc())));
        }
        Ok(Self(net))
    }
}

/// An address to listen at. `:7080` means every address of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl Word for Listen {
    const NAME: &'static str = "Address";
    const EXPECTED: &'static str = "an address such as \"127.0.0.1:7080\"";
    const CODE: &'static str = "bad-address";
    const PATTERN: &'static str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\])?:[0-9]{1,5}$";
    const EXAMPLE: &'static str = "127.0.0.1:7080";

    fn parse(text: &str) -> Result<Self, Mistake> {
        let help =
            "write an IP address, `:` and a port, such as \"127.0.0.1:7080\"; \":7080\" is every address";
        let address: Option<SocketAddr> = match text.strip_prefix(':') {
            // Not `port.parse()`: that takes `+7080` too.
            Some(port) => format!("{}:{port}", Ipv4Addr::UNSPECIFIED).parse().ok(),
            None => text.parse().ok(),
        };
        match address {
            Some(address) if address.port() != 0 => Ok(Self(address)),
            Some(_) => Err(Mistake::new("port 0 is not a port", "write a port from 1 to 65535")),
            None => {
                Err(Mistake::new(format!("`{}` is not an address with a port", text.escape_default()), help))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_form_is_every_address() {
        assert_eq!(Listen::parse(":7080"), Ok(Listen("0.0.0.0:7080".parse().unwrap())));
        assert_eq!(Listen::parse("[::1]:7080"), Ok(Listen("[::1]:7080".parse().unwrap())));
        for bad in ["", ":", ":0", "7080", "localhost:7080", "127.0.0.1", "127.0.0.1:70800", ":+7080"] {
            assert!(Listen::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_begins_with_its_first_address() {
        assert!(Net::parse("127.77.0.0/16").is_ok());
        assert_eq!(Net::parse("127.77.1.0/16").unwrap_err().help, "write \"127.77.0.0/16\"");
        for bad in ["127.77.0.0", "127.77.0.0/33", "::/8", ""] {
            assert!(Net::parse(bad).is_err(), "{bad}");
        }
    }
}
