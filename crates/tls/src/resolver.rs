//! Names of addresses and addresses of names.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// An answer that takes time.
pub type LookupFuture<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// Looks up names, for comparing a certificate with where a connection comes from. Errors are texts for the log.
pub trait Resolver: Send + Sync + 'static {
    /// The names an address has.
    fn names(&self, address: IpAddr) -> LookupFuture<Vec<String>>;
    /// The addresses a name has.
    fn addresses(&self, name: String) -> LookupFuture<Vec<IpAddr>>;
}

/// Asks the system, as `getnameinfo` and `getaddrinfo` do.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn names(&self, address: IpAddr) -> LookupFuture<Vec<String>> {
        Box::pin(async move {
            // The call blocks.
            let name = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&address))
                .await
                .map_err(|error| error.to_string())?
                .map_err(|_| format!("lookup {address}: no such host"))?;
            // Without a name, the system answers with the address.
            if name.parse::<IpAddr>().is_ok() {
                return Err(format!("lookup {address}: no such host"));
            }
            Ok(vec![name])
        })
    }

    fn addresses(&self, name: String) -> LookupFuture<Vec<IpAddr>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|_| format!("lookup {name}: no such host"))?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}
