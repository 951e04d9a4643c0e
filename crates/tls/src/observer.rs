//! What happens to certificates, for metrics.

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Material {
    /// Certificate and key presented to whom connects.
    Certificate,
    /// Certificate and key presented to whom is connected to.
    ClientCertificate,
    /// The bundle of authorities.
    TrustedCa,
    /// The revocation list.
    Crl,
}

impl Material {
    /// A short name, for labels and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::ClientCertificate => "client-certificate",
            Self::TrustedCa => "trusted-ca",
            Self::Crl => "crl",
        }
    }
}

/// Told about files and refusals. Calls come from connection tasks and must return at once.
pub trait Observer: Send + Sync + 'static {
    /// Files were loaded, at the start or because they changed. `ends` is when the first certificate in them ends, or
    /// when the next revocation list is due, in seconds since 1970.
    fn loaded(&self, material: Material, ends: Option<i64>) {
        let _ = (material, ends);
    }

    /// Changed files cannot be used; the previous ones stay in use.
    fn failed(&self, material: Material) {
        let _ = material;
    }

    /// A connection was refused.
    fn rejected(&self) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
