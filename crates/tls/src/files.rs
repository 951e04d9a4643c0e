//! Which files and rules a port or a client has.

use std::fmt;

use crate::Error;
use crate::go;

/// Files and rules of TLS, as flags or a section of the configuration file give them. Empty texts and lists: not given.
///
/// Its `Display` is the field `tls-info` of etcd's start-up lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain in PEM.
    pub cert: String,
    /// Its key in PEM.
    pub key: String,
    /// Certificate presented as a client; `cert` if empty.
    pub client_cert: String,
    /// Its key.
    pub client_key: String,
    /// Authorities in PEM: who may have signed the other side's certificate. On a port this alone makes client
    /// certificates mandatory.
    pub trusted_ca: String,
    /// Demand a client certificate, even without `trusted_ca` (then of the system's authorities).
    pub client_cert_auth: bool,
    /// Revoked certificates, in DER or PEM.
    pub crl: String,
    /// Common names a client certificate may have.
    pub allowed_cn: Vec<String>,
    /// Host names or addresses of which a client certificate must be valid for one.
    pub allowed_hostname: Vec<String>,
    /// Do not compare a client certificate's names with the address the connection comes from.
    pub skip_client_san_verification: bool,
    /// As a client, accept any certificate. Set for certificates [`crate::self_signed`] made.
    pub insecure_skip_verify: bool,
}

impl TlsFiles {
    /// Neither certificate nor key are given: a port cannot use TLS.
    pub fn is_empty(&self) -> bool {
        self.cert.is_empty() && self.key.is_empty()
    }

    /// Checks that a port can use TLS; `address` is its `host:port`, for the text.
    pub fn require(&self, address: &str) -> Result<(), Error> {
        if self.is_empty() {
            return Err(Error::NotPresented {
                address: address.to_owned(),
            });
        }
        Ok(())
    }

    /// Client certificates are demanded and verified.
    pub fn verifies_clients(&self) -> bool {
        self.client_cert_auth || !self.trusted_ca.is_empty()
    }

    /// What a port needs: both halves of its pair, both or no halves of the client pair, one list at most.
    pub(crate) fn check_server(&self) -> Result<(), Error> {
        if !self.allowed_cn.is_empty() && !self.allowed_hostname.is_empty() {
            return Err(Error::TwoLists {
                cns: go::quoted_list(&self.allowed_cn),
                hostnames: go::quoted_list(&self.allowed_hostname),
            });
        }
        if self.cert.is_empty() || self.key.is_empty() {
            return Err(Error::HalfPair {
                key: self.key.clone(),
                cert: self.cert.clone(),
            });
        }
        self.check_client_pair()
    }

    /// What a client needs: both or no halves of each pair.
    pub(crate) fn check_client(&self) -> Result<(), Error> {
        if self.cert.is_empty() != self.key.is_empty() {
            return Err(Error::HalfPair {
                key: self.key.clone(),
                cert: self.cert.clone(),
            });
        }
        self.check_client_pair()
    }

    fn check_client_pair(&self) -> Result<(), Error> {
        if self.client_cert.is_empty() != self.client_key.is_empty() {
            return Err(Error::HalfClientPair {
                key: self.client_key.clone(),
                cert: self.client_cert.clone(),
            });
        }
        Ok(())
    }

    /// Certificate and key presented as a client; empty if there are none.
    pub(crate) fn client_pair(&self) -> (&str, &str) {
        if self.client_cert.is_empty() {
            (&self.cert, &self.key)
        } else {
            (&self.client_cert, &self.client_key)
        }
    }
}

impl fmt::Display for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
            self.cert,
            self.key,
            self.client_cert,
            self.client_key,
            self.trusted_ca,
            self.client_cert_auth,
            self.crl
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> TlsFiles {
        TlsFiles {
            cert: "c".into(),
            key: "k".into(),
            ..TlsFiles::default()
        }
    }

    #[test]
    fn halves_of_pairs_are_refused_in_etcds_words() {
        let half = TlsFiles {
            key: String::new(),
            ..files()
        };
        assert_eq!(
            half.check_server().unwrap_err().to_string(),
            "KeyFile and CertFile must both be present[key: , cert: c]"
        );
        assert_eq!(half.check_client(), half.check_server());
        let client = TlsFiles {
            client_key: "ck".into(),
            ..files()
        };
        assert_eq!(
            client.check_server().unwrap_err().to_string(),
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: ck, cert: ]"
        );
        assert!(TlsFiles::default().check_client().is_ok());
        assert_eq!(
            TlsFiles::default()
                .require("127.0.0.1:2380")
                .unwrap_err()
                .to_string(),
            "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented"
        );
    }

    #[test]
    fn common_names_and_host_names_exclude_each_other() {
        let both = TlsFiles {
            allowed_cn: vec!["alice".into(), "bob".into()],
            allowed_hostname: vec!["foo".into()],
            ..files()
        };
        assert_eq!(
            both.check_server().unwrap_err().to_string(),
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"alice\" \"bob\"], hostnames=[\"foo\"])"
        );
    }

    #[test]
    fn the_start_up_lines_show_the_files_as_etcd_does() {
        let files = TlsFiles {
            trusted_ca: "ca".into(),
            client_cert_auth: true,
            ..files()
        };
        assert_eq!(
            files.to_string(),
            "cert = c, key = k, client-cert=, client-key=, trusted-ca = ca, client-cert-auth = true, crl-file = "
        );
    }
}
