//! Start-up errors, and files that change while a port is open.

mod common;

use std::sync::{Arc, Mutex};

use common::{Authority, Dir, client, meet, nobody, server};
use tls::{Error, Material, Observer, Protocol, ServerOptions, ServerTls, TlsFiles};

fn refused(files: &TlsFiles) -> String {
    let result = ServerTls::new(files, &Protocol::default(), ServerOptions::client());
    result.err().unwrap().to_string()
}

/// Every text here was seen in the log of etcd 3.7.3.
#[test]
fn what_is_wrong_at_the_start_is_said_in_etcds_words() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let good = dir.trusting("server", &ca.server(), &ca);
    let other = dir.pair("other", &ca.server());
    let junk = dir.put("junk", "junk");
    let missing = dir.at("missing").to_str().unwrap().to_owned();
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        refused(&files)
    };
    let not_found = format!("open {missing}: no such file or directory");
    assert_eq!(with(&|f| f.cert.clone_from(&missing)), not_found);
    assert_eq!(with(&|f| f.key.clone_from(&missing)), not_found);
    assert_eq!(with(&|f| f.trusted_ca.clone_from(&missing)), not_found);
    let client_pair = |f: &mut TlsFiles| {
        f.client_cert.clone_from(&missing);
        f.client_key.clone_from(&other.key);
    };
    assert_eq!(with(&client_pair), not_found);
    assert_eq!(
        with(&|f| f.key.clone_from(&other.key)),
        "tls: private key does not match public key"
    );
    assert_eq!(
        with(&|f| f.cert.clone_from(&junk)),
        "tls: failed to find any PEM data in certificate input"
    );
    assert_eq!(
        with(&|f| f.key.clone_from(&junk)),
        "tls: failed to find any PEM data in key input"
    );
    assert!(
        with(&|f| f.key = String::new()).starts_with("KeyFile and CertFile must both be present")
    );
}

#[test]
fn a_suite_http2_needs_must_be_among_those_of_a_client_port() {
    let dir = Dir::new();
    let files = dir.pair("server", &Authority::new("ca").server());
    let protocol = Protocol::new("", "", &["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]).unwrap();
    let result = ServerTls::new(&files, &protocol, ServerOptions::client());
    assert_eq!(result.err(), Some(Error::SuiteOfHttp2));
    assert!(ServerTls::new(&files, &protocol, ServerOptions::peer()).is_ok());
}

#[tokio::test]
async fn a_new_certificate_is_used_at_the_next_handshake() {
    let dir = Dir::new();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = server(&dir.pair("server", &old.server()));
    let (knows_old, knows_new) = (
        nobody(&dir, &old),
        client(&TlsFiles {
            trusted_ca: dir.put("new-ca.crt", new.pem()),
            ..TlsFiles::default()
        }),
    );
    assert!(meet(&server, &knows_old).await.client.is_ok());
    assert!(meet(&server, &knows_new).await.client.is_err());

    // Half of a rotation: the pair does not match, and the old one stays in use.
    let next = new.server();
    dir.put("server.crt", &next.cert);
    assert!(meet(&server, &knows_old).await.client.is_ok());
    dir.put("server.key", &next.key);
    assert!(meet(&server, &knows_old).await.client.is_err());
    assert!(meet(&server, &knows_new).await.client.is_ok());

    // Files that are gone change nothing either.
    std::fs::remove_file(dir.at("server.crt")).unwrap();
    assert!(meet(&server, &knows_new).await.client.is_ok());
}

#[tokio::test]
async fn a_clients_own_certificate_is_looked_at_again_too() {
    let dir = Dir::new();
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = server(&dir.trusting("server", &ca.server(), &ca));
    let client = client(&dir.trusting("client", &other.issue("alice", |_| {}), &ca));
    assert!(meet(&server, &client).await.server.is_err());
    dir.pair("client", &ca.issue("alice", |_| {}));
    assert!(meet(&server, &client).await.server.is_ok());
}

/// Beyond etcd, which reads authorities only at its start.
#[tokio::test]
async fn authorities_are_replaced_when_the_new_ones_are_good() {
    let dir = Dir::new();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = dir.trusting("server", &old.server(), &old);
    let server = server(&files);
    let of = |authority: &Authority, name: &str| {
        client(&dir.trusting(name, &authority.issue(name, |_| {}), &old))
    };
    let (first, second) = (of(&old, "first"), of(&new, "second"));
    let verdicts = async || {
        let (first, second) = (meet(&server, &first).await, meet(&server, &second).await);
        (first.server.is_ok(), second.server.is_ok())
    };
    assert_eq!(verdicts().await, (true, false));
    let both = format!("{}{}", old.pem(), new.pem());
    dir.put("server-ca.crt", both);
    assert_eq!(verdicts().await, (true, true));
    for bad in [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        "junk".to_owned(),
        String::new(),
        Authority::expired("late").pem(),
    ] {
        dir.put("server-ca.crt", bad);
        assert_eq!(verdicts().await, (true, true));
    }
    dir.put("server-ca.crt", new.pem());
    assert_eq!(verdicts().await, (false, true));
}

#[tokio::test]
async fn revoked_certificates_are_refused_from_the_next_connection_on() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let (alice, bob) = (ca.issue("alice", |_| {}), ca.issue("bob", |_| {}));
    let mut files = dir.trusting("server", &ca.server(), &ca);
    files.crl = dir.at("crl").to_str().unwrap().to_owned();
    let server = server(&files);
    let (alice_there, bob_there) = (
        client(&dir.trusting("alice", &alice, &ca)),
        client(&dir.trusting("bob", &bob, &ca)),
    );
    let refusal = async |client| meet(&server, client).await.server.err();

    // A list that never was good keeps everybody with a certificate out, as in etcd.
    assert_eq!(
        refusal(&alice_there).await.unwrap(),
        format!("open {}: no such file or directory", files.crl)
    );
    dir.put("crl", "junk");
    assert_eq!(refusal(&alice_there).await.unwrap(), "x509: malformed crl");

    let (der, pem) = ca.revoke(&[&alice]);
    dir.put("crl", &der);
    let revoked = "transport: certificate serial a616c696365 revoked";
    assert_eq!(refusal(&alice_there).await.as_deref(), Some(revoked));
    assert_eq!(refusal(&bob_there).await, None);

    dir.put("crl", ca.revoke(&[]).0);
    assert_eq!(refusal(&alice_there).await, None);
    dir.put("crl", pem);
    assert_eq!(refusal(&alice_there).await.as_deref(), Some(revoked));

    // Beyond etcd: the last good list stays in use.
    dir.put("crl", &der[..der.len() - 1]);
    assert_eq!(refusal(&alice_there).await.as_deref(), Some(revoked));
    assert_eq!(refusal(&bob_there).await, None);
    let several = format!("{}{}", ca.revoke(&[&alice]).1, ca.revoke(&[&bob]).1);
    dir.put("crl", several);
    assert!(refusal(&alice_there).await.is_some() && refusal(&bob_there).await.is_some());
}

/// An intermediate's serial counts like the client's own.
#[tokio::test]
async fn every_certificate_of_a_chain_may_be_revoked() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let serial = vec![0x77];
    let below = ca.below_as("below", |params| {
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x77]));
    });
    let mut alice = below.issue("alice", |_| {});
    alice.cert.push_str(&below.pem());
    let mut files = dir.trusting("server", &ca.server(), &ca);
    let listed = common::Leaf {
        cert: String::new(),
        key: String::new(),
        serial,
    };
    files.crl = dir.put("crl", ca.revoke(&[&listed]).0);
    let meeting = meet(
        &server(&files),
        &client(&dir.trusting("client", &alice, &ca)),
    )
    .await;
    assert_eq!(
        meeting.refusal(),
        "transport: certificate serial 77 revoked"
    );
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn loaded(&self, material: Material, ends: Option<i64>) {
        let text = format!("{} until {ends:?}", material.name());
        self.0.lock().unwrap().push(text);
    }

    fn failed(&self, material: Material) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{} bad", material.name()));
    }

    fn rejected(&self) {
        self.0.lock().unwrap().push("rejected".to_owned());
    }
}

#[tokio::test]
async fn an_observer_hears_of_files_and_refusals() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let leaf = ca.issue("server", |params| {
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    });
    let mut files = dir.trusting("server", &leaf, &ca);
    files.crl = dir.put("crl", ca.revoke(&[]).0);
    let heard = Arc::new(Heard::default());
    let options = ServerOptions::client().with_observer(Arc::clone(&heard) as _);
    let server = ServerTls::new(&files, &Protocol::default(), options).unwrap();
    dir.put("server.crt", "junk");
    server.refresh();
    server.refresh();
    let _ = meet(&server, &nobody(&dir, &ca)).await;
    assert_eq!(
        *heard.0.lock().unwrap(),
        [
            "certificate until Some(4102444800)",
            "trusted-ca until Some(67090118400)",
            "crl until Some(1706745600)",
            "certificate bad",
            "rejected",
        ]
    );
}
