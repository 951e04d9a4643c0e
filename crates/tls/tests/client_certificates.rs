//! Which client certificates a port accepts. Every verdict here was compared with etcd 3.7.3 (`docs/tls.md`).

mod common;

use common::{Authority, Dir, Leaf, client, dns, ip, meet, nobody, server};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa};
use tls::{ClientOptions, ClientTls, Protocol, ServerTls, TlsFiles};

struct Stage {
    dir: Dir,
    ca: Authority,
    server: ServerTls,
}

fn stage_with(change: impl FnOnce(&mut TlsFiles)) -> Stage {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let mut files = dir.trusting("server", &ca.server(), &ca);
    change(&mut files);
    let server = server(&files);
    Stage { dir, ca, server }
}

fn stage() -> Stage {
    stage_with(|_| {})
}

impl Stage {
    fn client(&self, leaf: &Leaf) -> ClientTls {
        client(&self.dir.trusting("client", leaf, &self.ca))
    }

    async fn refusal(&self, leaf: &Leaf) -> String {
        meet(&self.server, &self.client(leaf)).await.refusal()
    }

    async fn accepts(&self, leaf: &Leaf) -> tls::Identity {
        meet(&self.server, &self.client(leaf)).await.guest()
    }
}

const UNKNOWN: &str =
    "tls: failed to verify certificate: x509: certificate signed by unknown authority";
const USAGE: &str =
    "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage";

#[tokio::test]
async fn a_trusted_authority_makes_certificates_mandatory() {
    let stage = stage();
    assert!(stage.server.verifies_clients());
    let meeting = meet(&stage.server, &nobody(&stage.dir, &stage.ca)).await;
    assert!(
        meeting
            .client
            .as_ref()
            .unwrap_err()
            .contains("CertificateRequired")
    );
    assert_eq!(
        meeting.refusal(),
        "tls: client didn't provide a certificate"
    );
}

#[tokio::test]
async fn without_an_authority_nobody_is_asked() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let server = server(&dir.pair("server", &ca.server()));
    assert!(!server.verifies_clients());
    let alice = ca.issue("alice", |_| {});
    let guest = meet(&server, &client(&dir.trusting("client", &alice, &ca))).await;
    assert!(!guest.guest().is_verified());
}

#[tokio::test]
async fn the_identity_is_what_the_certificate_says() {
    let stage = stage();
    let alice = stage.ca.issue("alice", |params| {
        params.subject_alt_names = vec![dns("client.local"), ip("10.9.9.9")];
    });
    let guest = stage.accepts(&alice).await;
    assert_eq!(guest.common_name, "alice");
    assert_eq!(guest.dns_names, ["client.local"]);
    assert_eq!(
        guest.ip_addresses,
        ["10.9.9.9".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(guest.chain.len(), 1);
}

#[tokio::test]
async fn tls_1_2_verifies_as_well() {
    let stage = stage();
    let old = Protocol::new::<&str>("", "TLS1.2", &[]).unwrap();
    for (leaf, good) in [
        (stage.ca.issue("alice", |_| {}), true),
        (stage.ca.issue_v1("old"), true),
        (Authority::new("other").issue("stranger", |_| {}), false),
    ] {
        let files = stage.dir.trusting("client", &leaf, &stage.ca);
        let client = ClientTls::new(&files, &old, ClientOptions::default()).unwrap();
        let meeting = meet(&stage.server, &client).await;
        assert_eq!(meeting.server.is_ok(), good, "{meeting:?}");
        assert_eq!(meeting.client.is_ok(), good, "{meeting:?}");
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let stage = stage();
    let other = Authority::new("other");
    assert_eq!(
        stage.refusal(&other.issue("stranger", |_| {})).await,
        UNKNOWN
    );
    // An authority of the same name is another one.
    let twin = Authority::new("ca");
    assert_eq!(stage.refusal(&twin.issue("alice", |_| {})).await, UNKNOWN);
    assert_eq!(stage.refusal(&twin.issue_v1("alice")).await, UNKNOWN);
}

#[tokio::test]
async fn certificates_count_only_in_their_time() {
    let stage = stage();
    let late = stage.ca.issue("late", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    let text = stage.refusal(&late).await;
    assert!(
        text.starts_with(
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 20"
        ) && text.ends_with(" is after 2020-01-02T00:00:00Z"),
        "{text}"
    );
    let early = stage.ca.issue("early", |params| {
        params.not_before = rcgen::date_time_ymd(3000, 1, 1);
    });
    let text = stage.refusal(&early).await;
    assert!(text.ends_with(" is before 3000-01-01T00:00:00Z"), "{text}");
}

#[tokio::test]
async fn usages_are_obeyed() {
    let stage = stage();
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
        stage
            .ca
            .issue("user", |params| params.extended_key_usages = usages)
    };
    let only_server = with(vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(stage.refusal(&only_server).await, USAGE);
    stage
        .accepts(&with(vec![ExtendedKeyUsagePurpose::ClientAuth]))
        .await;
    stage
        .accepts(&with(vec![ExtendedKeyUsagePurpose::Any]))
        .await;
    stage.accepts(&with(Vec::new())).await;
}

/// `openssl x509 -req` without an extensions file makes these; Go takes them, webpki does not.
#[tokio::test]
async fn certificates_of_version_1_are_accepted() {
    let stage = stage();
    let guest = stage.accepts(&stage.ca.issue_v1("plain")).await;
    assert_eq!(guest.common_name, "plain");
    assert!(guest.dns_names.is_empty());
    let below = stage.ca.below("below");
    let mut deep = below.issue_v1("deep");
    assert_eq!(stage.refusal(&deep).await, UNKNOWN);
    deep.cert.push_str(&below.pem());
    assert_eq!(stage.accepts(&deep).await.chain.len(), 2);
}

#[tokio::test]
async fn an_authority_may_be_a_client() {
    let stage = stage();
    let leaf = stage.ca.issue("both", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    stage.accepts(&leaf).await;
    let wrong = stage.ca.issue("both", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(stage.refusal(&wrong).await, USAGE);
    let late = stage.ca.issue("both", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    assert!(stage.refusal(&late).await.contains("has expired"));
}

/// A certificate may be trusted itself.
#[tokio::test]
async fn a_certificate_in_the_list_needs_no_authority() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let alice = Authority::new("never asked").issue("alice", |_| {});
    let mut files = dir.trusting("server", &ca.server(), &ca);
    files.trusted_ca = dir.put("list.crt", format!("{}{}", ca.pem(), alice.cert));
    let server = server(&files);
    let guest = meet(&server, &client(&dir.trusting("client", &alice, &ca))).await;
    assert_eq!(guest.guest().common_name, "alice");
}

#[tokio::test]
async fn intermediates_are_used_within_their_limits() {
    let stage = stage();
    let below = stage.ca.below("below");
    let mut leaf = below.issue("alice", |_| {});
    assert_eq!(stage.refusal(&leaf).await, UNKNOWN);
    leaf.cert.push_str(&below.pem());
    assert_eq!(stage.accepts(&leaf).await.chain.len(), 2);

    // One that is no authority cannot sign.
    let fake = stage
        .ca
        .below_as("fake", |params| params.is_ca = IsCa::ExplicitNoCa);
    let mut leaf = fake.issue("alice", |_| {});
    leaf.cert.push_str(&fake.pem());
    assert_eq!(stage.refusal(&leaf).await, UNKNOWN);
    let mut leaf = fake.issue_v1("alice");
    leaf.cert.push_str(&fake.pem());
    assert_eq!(stage.refusal(&leaf).await, UNKNOWN);

    // One whose time is over cannot sign either.
    let late = stage.ca.below_as("late", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    for mut leaf in [late.issue("alice", |_| {}), late.issue_v1("alice")] {
        leaf.cert.push_str(&late.pem());
        assert!(stage.refusal(&leaf).await.contains("has expired"));
    }
}

#[tokio::test]
async fn path_lengths_are_obeyed() {
    let dir = Dir::new();
    let ca = Authority::limited("ca", BasicConstraints::Constrained(0));
    let below = ca.below("below");
    let server = server(&dir.trusting("server", &ca.server(), &ca));
    let meets = async |mut leaf: Leaf| {
        leaf.cert.push_str(&below.pem());
        let client = client(&dir.trusting("client", &leaf, &ca));
        meet(&server, &client).await.server
    };
    assert!(meets(ca.issue("alice", |_| {})).await.is_ok());
    assert!(meets(below.issue("alice", |_| {})).await.is_err());
    assert!(
        meets(below.issue_v1("alice"))
            .await
            .unwrap_err()
            .contains("too many intermediates")
    );
}

#[tokio::test]
async fn an_authority_whose_time_is_over_vouches_for_nobody() {
    let dir = Dir::new();
    let (ca, late) = (Authority::new("ca"), Authority::expired("late"));
    let mut files = dir.trusting("server", &ca.server(), &ca);
    files.trusted_ca = dir.put("late.crt", late.pem());
    let server = server(&files);
    for leaf in [late.issue("alice", |_| {}), late.issue_v1("alice")] {
        let client = client(&dir.trusting("client", &leaf, &ca));
        meet(&server, &client).await.refusal();
    }
}

#[tokio::test]
async fn only_listed_common_names_come_in() {
    let stage = stage_with(|files| files.allowed_cn = vec!["alice".into(), "bob".into()]);
    stage.accepts(&stage.ca.issue("bob", |_| {})).await;
    let eve = stage.client(&stage.ca.issue("eve", |_| {}));
    let meeting = meet(&stage.server, &eve).await;
    assert!(
        meeting
            .client
            .as_ref()
            .unwrap_err()
            .contains("BadCertificate")
    );
    assert_eq!(
        meeting.refusal(),
        "client certificate authentication failed"
    );
}

#[tokio::test]
async fn only_listed_host_names_come_in() {
    let stage = stage_with(|files| {
        files.allowed_hostname = vec!["a.example".into(), "10.9.9.9".into()];
    });
    for (name, good) in [
        (dns("a.example"), true),
        (dns("*.example"), true),
        (ip("10.9.9.9"), true),
        (dns("b.example"), false),
        (ip("10.9.9.8"), false),
    ] {
        let leaf = stage.ca.issue("a.example", |params| {
            params.subject_alt_names = vec![name.clone()];
        });
        let meeting = meet(&stage.server, &stage.client(&leaf)).await;
        assert_eq!(meeting.server.is_ok(), good, "{name:?} {meeting:?}");
    }
    // A common name is no host name.
    stage.refusal(&stage.ca.issue("a.example", |_| {})).await;
}
