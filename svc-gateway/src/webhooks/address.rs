//! Where may be called: public addresses, and the networks that the configuration allows. Everything else could be something inside that trusts whoever reaches it
//! (server-side request forgery, <https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html>).
//!
//! The check is of addresses, at the moment of the connection: a name may mean another address by then.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use url::Host;

const MAX_URL_CHARACTERS: usize = 2_000;

/// What is not for the public: the special-purpose registries of IANA (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>), multicast, and the ranges that carry an IPv4 address inside an IPv6 one.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// What of IPv6 is public: global unicast, without what the registry takes out of it.
const GLOBAL_UNICAST: &str = "2000::/3";
const NOT_PUBLIC_V6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"];

static CLOSED_V4: LazyLock<Vec<IpNet>> = LazyLock::new(|| networks(NOT_PUBLIC));
static CLOSED_V6: LazyLock<Vec<IpNet>> = LazyLock::new(|| networks(NOT_PUBLIC_V6));
static OPEN_V6: LazyLock<Vec<IpNet>> = LazyLock::new(|| networks(&[GLOBAL_UNICAST]));

/// Which addresses may be called.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    allowed: Vec<IpNet>,
    /// Whether a receiver may be called without TLS.
    http: bool,
}

/// Why a receiver is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The URL is not one that can be called.
    #[error("{0}")]
    Url(&'static str),
    /// The name has no address now.
    #[error("the name of the receiver does not resolve")]
    Unresolved,
    /// It leads where the gateway does not call.
    #[error("the receiver's address is not public, nor in a network that the gateway may call")]
    Closed,
}

// === impl Reach ===

impl Reach {
    /// Public addresses, and these networks; without TLS only if `http`.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>, http: bool) -> Self {
        Self { allowed, http }
    }

    /// Whether an address may be called.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|network| network.contains(&address)) || is_public(address)
    }

    /// Reads a URL. Its name is not looked up.
    ///
    /// # Errors
    /// When it is not one that can be called.
    pub fn read(&self, text: &str) -> Result<Url, AddressError> {
        if text.chars().count() > MAX_URL_CHARACTERS {
            return Err(AddressError::Url("is longer than 2000 characters"));
        }
        let url = Url::parse(text).map_err(|_| AddressError::Url("is not a URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            _ => return Err(AddressError::Url("must begin with https://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Url("must not hold a user or password"));
        }
        if url.fragment().is_some() {
            return Err(AddressError::Url("must not hold a fragment"));
        }
        // An address needs no look-up, so no resolver ever sees it.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(AddressError::Url("has no host")),
        };
        match literal {
            Some(address) if !self.allows(address) => Err(AddressError::Closed),
            Some(_) | None => Ok(url),
        }
    }

    /// The addresses of a name, all of which may be called: one that may not is refused with the others, for which is taken is not ours to say.
    ///
    /// # Errors
    /// When it has none, or one that may not be called.
    pub async fn look_up(&self, host: &str) -> Result<Vec<SocketAddr>, AddressError> {
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|_| AddressError::Unresolved)?;
        let found: Vec<_> = found.collect();
        match found.as_slice() {
            [] => Err(AddressError::Unresolved),
            some if some.iter().all(|address| self.allows(address.ip())) => Ok(found),
            _ => Err(AddressError::Closed),
        }
    }

    /// Whether a receiver may be called now, as far as can be told without calling it.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::look_up`].
    pub async fn check(&self, text: &str) -> Result<Url, AddressError> {
        let url = self.read(text)?;
        if let Some(Host::Domain(name)) = url.host() {
            self.look_up(name).await?;
        }
        Ok(url)
    }
}

/// Looks names up for the client that delivers: it connects to what was checked, and to nothing else.
#[derive(Debug)]
pub struct CheckedNames(pub Arc<Reach>);

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let found = reach.look_up(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => false,
        IpAddr::V4(_) => !within(&CLOSED_V4),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => false,
        IpAddr::V6(_) => within(&OPEN_V6) && !within(&CLOSED_V6),
    }
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("the networks of this file are well formed")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_public_addresses_are_called() {
        let reach = Reach::default();
        for open in ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "172.32.0.1", "100.128.0.1"] {
            assert!(reach.allows(open.parse().unwrap()), "{open}");
        }
        for closed in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
            "100::1",
        ] {
            assert!(!reach.allows(closed.parse().unwrap()), "{closed}");
        }
    }

    #[test]
    fn a_network_can_be_allowed_and_opens_no_other() {
        let reach = Reach::new(vec!["10.2.0.0/16".parse().unwrap()], false);
        assert!(reach.allows("10.2.3.4".parse().unwrap()));
        assert!(reach.allows("::ffff:10.2.3.4".parse().unwrap()));
        assert!(!reach.allows("10.3.0.1".parse().unwrap()));
    }

    #[test]
    fn urls_are_read_or_refused() {
        let reach = Reach::default();
        assert!(reach.read("https://hooks.example.com/dalp?a=b").is_ok());
        for bad in [
            "",
            "x",
            "ftp://example.com",
            "http://example.com",
            "file:///etc/passwd",
            "https://",
            "https://user@example.com",
            "https://user:p@example.com",
            "https://example.com/#x",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://10.0.0.1:8443/",
            "https://１２７.0.0.1/",
        ] {
            assert!(reach.read(bad).is_err(), "{bad}");
        }
        assert_eq!(
            reach.read(&format!("https://example.com/{}", "x".repeat(2_000))),
            Err(AddressError::Url("is longer than 2000 characters"))
        );
        assert!(Reach::new(Vec::new(), true).read("http://example.com").is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused() {
        let reach = Reach::default();
        assert_eq!(reach.check("https://localhost/").await, Err(AddressError::Closed));
        assert_eq!(reach.check("https://name.invalid/").await, Err(AddressError::Unresolved));
        let inside = Reach::new(networks(&["127.0.0.0/8", "::1/128"]), false);
        assert!(inside.check("https://localhost/").await.is_ok());
    }

    proptest! {
        #[test]
        fn no_url_panics_or_reaches_inside_by_its_literal(text in "\\PC{0,60}") {
            let _answered = Reach::default().read(&text);
        }

        #[test]
        fn an_address_written_as_a_number_is_the_address(number in any::<u32>()) {
            let read = Reach::default().read(&format!("https://{number}/"));
            prop_assert_eq!(read.is_ok(), Reach::default().allows(IpAddr::V4(Ipv4Addr::from(number))));
        }
    }
}
