//! Tokens, and finding out who sends a request.

mod support;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use api::Error;
use auth::{
    AuthInfo, AuthResponse, Credentials, Identity, Jwt, KeyError, OptionsError, TokenConfig,
    TokenProvider, credentials,
};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use support::*;

const TTL: Duration = Duration::from_mins(5);

fn headers<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> + use<'a> {
    move |name| {
        pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }
}

#[test]
fn credentials_by_rank() {
    let of = |pairs: &'static [(&str, &str)], name| credentials(headers(pairs), name);
    assert_eq!(of(&[], None), Credentials::None);
    assert_eq!(of(&[], Some("cn")), Credentials::CommonName("cn"));
    assert_eq!(
        of(&[("token", "t"), ("authorization", "a")], Some("cn")),
        Credentials::Token("t")
    );
    assert_eq!(of(&[("authorization", "a")], None), Credentials::Token("a"));
    assert_eq!(
        of(&[("authorization", "Bearer a")], None),
        Credentials::Token("a")
    );
    assert_eq!(
        of(&[("token", "Bearer Bearer a")], None),
        Credentials::Token("Bearer a")
    );
    assert_eq!(
        of(&[("token", "bearer a")], None),
        Credentials::Token("bearer a")
    );
    assert_eq!(of(&[("token", "")], Some("cn")), Credentials::Token(""));
    // The certificate of the gateway's own connection is nobody's.
    assert_eq!(
        of(&[("grpcgateway-accept", "*/*")], Some("cn")),
        Credentials::None
    );
    assert_eq!(
        of(&[("grpcgateway-accept", ""), ("token", "t")], None),
        Credentials::Token("t")
    );
}

#[test]
fn simple_tokens_are_good_once_their_entry_is_applied() {
    let mut member = Member::enabled();
    member.index = 122;
    let AuthResponse::Authenticate(login_of_ann) = member.ok(login("ann", "abc")) else {
        panic!()
    };
    let token = member
        .view()
        .finish_login(login_of_ann, &At::default())
        .unwrap();
    let who = |member: &Member, token: &str, applied| {
        member
            .view()
            .identify(&Credentials::Token(token), applied, &At::default())
    };
    assert_eq!(who(&member, &token, 121), Ok(Identity::AfterIndex(122)));
    let known = |revision| Ok(Identity::Known(Some(info("ann", revision))));
    assert_eq!(who(&member, &token, 122), known(member.revision()));
    // It keeps up with the revision.
    member.ok(role_add("new"));
    assert_eq!(who(&member, &token, 125), known(member.revision()));
    for bad in [
        "x.122", "x.1", "x", "", ".", "x.", ".1", "x.+1", "x.1.1", "abc.0122", "ABC.122",
    ] {
        assert_eq!(
            who(&member, bad, 125),
            Err(Error::InvalidAuthToken),
            "{bad}"
        );
    }
    // These changes end no token, these do.
    for op in [
        revoke_role("ann", "r"),
        role_delete("r"),
        change_password("root", hashed("x")),
    ] {
        member.ok(op);
        assert!(who(&member, &token, 200).is_ok());
    }
    member.ok(change_password("ann", hashed("x")));
    assert_eq!(who(&member, &token, 200), Err(Error::InvalidAuthToken));
    for ops in [
        vec![user_delete("ann"), user_add("ann")],
        vec![disable(), enable()],
    ] {
        member.ok(login("ann", "new"));
        let token = format!("new.{}", member.index - 1);
        assert!(who(&member, &token, 400).is_ok());
        for op in ops {
            member.ok(op);
        }
        assert_eq!(who(&member, &token, 400), Err(Error::InvalidAuthToken));
    }
}

#[test]
fn without_auth_tokens_are_not_looked_at() {
    let mut member = Member::enabled();
    member.ok(disable());
    let view = member.view();
    let identify = |credentials| view.identify(&credentials, 0, &At::default());
    assert_eq!(
        identify(Credentials::Token("x.99")),
        Ok(Identity::Known(None))
    );
    assert_eq!(identify(Credentials::None), Ok(Identity::Known(None)));
    let cn = Identity::Known(Some(info("cn", member.revision())));
    assert_eq!(identify(Credentials::CommonName("cn")), Ok(cn));
}

#[test]
fn a_read_must_not_outlive_what_it_was_checked_against() {
    let mut member = Member::enabled();
    let now = info("ann", member.revision());
    let view = member.view().clone();
    assert_eq!(view.still_current(Some(&now)), Ok(()));
    assert_eq!(
        view.still_current(Some(&info("ann", now.revision + 5))),
        Err(Error::AuthOldRevision)
    );
    member.ok(role_add("x"));
    assert_eq!(view.still_current(Some(&now)), Err(Error::AuthOldRevision));
    assert_eq!(view.still_current(Some(&info("ann", 0))), Ok(()));
    assert_eq!(view.still_current(None), Ok(()));
}

type Files = HashMap<&'static str, Vec<u8>>;

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
    .into_bytes()
}

/// Key pairs of all kinds, two of each: `rsa.pem`, `rsa.pub`, `rsa2.pem`, …
fn key_files() -> &'static Files {
    static FILES: std::sync::OnceLock<Files> = std::sync::OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = Files::new();
        for [private, public] in [["rsa.pem", "rsa.pub"], ["rsa2.pem", "rsa2.pub"]] {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            files.insert(private, pem("PRIVATE KEY", pair.as_der().unwrap().as_ref()));
            // PKCS#1, the older form.
            files.insert(public, pem("RSA PUBLIC KEY", pair.public_key().as_ref()));
        }
        let curves: [(&'static EcdsaSigningAlgorithm, [&str; 2]); 4] = [
            (&ECDSA_P256_SHA256_FIXED_SIGNING, ["p256.pem", "p256.pub"]),
            (&ECDSA_P256_SHA256_FIXED_SIGNING, ["p256b.pem", "p256b.pub"]),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, ["p384.pem", "p384.pub"]),
            (&ECDSA_P521_SHA512_FIXED_SIGNING, ["p521.pem", "p521.pub"]),
        ];
        for (curve, [private, public]) in curves {
            let pair = EcdsaKeyPair::generate(curve).unwrap();
            files.insert(
                private,
                pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()),
            );
            let spki = pair.public_key().as_der().unwrap();
            files.insert(public, pem("PUBLIC KEY", spki.as_ref()));
        }
        for [private, public] in [["ed.pem", "ed.pub"], ["ed2.pem", "ed2.pub"]] {
            let pair = Ed25519KeyPair::generate().unwrap();
            files.insert(
                private,
                pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()),
            );
            let spki = pair.public_key().as_der().unwrap();
            files.insert(public, pem("PUBLIC KEY", spki.as_ref()));
        }
        files.insert("secret", b"not text: \xff\0 \n".to_vec());
        files.insert("junk", b"junk".to_vec());
        files.insert("empty", Vec::new());
        files
    })
}

fn read(name: &str) -> io::Result<Vec<u8>> {
    key_files()
        .get(name)
        .cloned()
        .ok_or_else(|| io::Error::from_raw_os_error(2))
}

fn provider(text: &str) -> Result<TokenProvider, OptionsError> {
    TokenProvider::new(TokenConfig::parse(text, TTL)?, read)
}

fn jwt(options: &str) -> TokenProvider {
    provider(&format!("jwt,{options}")).unwrap_or_else(|error| panic!("{options}: {error}"))
}

const METHODS: [(&str, &str, &str); 13] = [
    ("RS256", "rsa.pem", "rsa.pub"),
    ("RS384", "rsa.pem", "rsa.pub"),
    ("RS512", "rsa.pem", "rsa.pub"),
    ("PS256", "rsa.pem", "rsa.pub"),
    ("PS384", "rsa.pem", "rsa.pub"),
    ("PS512", "rsa.pem", "rsa.pub"),
    ("ES256", "p256.pem", "p256.pub"),
    ("ES384", "p384.pem", "p384.pub"),
    ("ES512", "p521.pem", "p521.pub"),
    ("EdDSA", "ed.pem", "ed.pub"),
    ("HS256", "secret", ""),
    ("HS384", "secret", ""),
    ("HS512", "secret", ""),
];

#[test]
fn tokens_signed_by_every_method_are_verified() {
    let ann = info("ann", 42);
    let at = Duration::from_secs(1_000_000);
    for (method, private, public) in METHODS {
        let both = jwt(&format!(
            "sign-method={method},priv-key={private},pub-key={public},ttl=10s"
        ));
        let both = both.jwt().unwrap();
        let token = both.sign(&ann, at).unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        assert_eq!(claims, br#"{"exp":1000010,"revision":42,"username":"ann"}"#);
        for _ in 0..2 {
            assert_eq!(both.verify(&token, at), Some(ann.clone()), "{method}");
            let last_moment = at + Duration::from_millis(9999);
            assert_eq!(both.verify(&token, last_moment), Some(ann.clone()));
            assert_eq!(both.verify(&token, at + Duration::from_secs(10)), None);
        }
        // Another method's tokens are no good, also where the key would do.
        for (other, private, _) in METHODS {
            if other != method {
                let other = jwt(&format!("sign-method={other},priv-key={private}"));
                let foreign = other.jwt().unwrap().sign(&ann, at).unwrap();
                assert_eq!(both.verify(&foreign, at), None);
            }
        }
        tampered(both, &token, at);
        if !public.is_empty() {
            let verify_only = jwt(&format!("sign-method={method},pub-key={public}"));
            let verify_only = verify_only.jwt().unwrap();
            assert_eq!(verify_only.verify(&token, at), Some(ann.clone()));
            let error = verify_only.sign(&ann, at).unwrap_err();
            assert_eq!(
                error.to_string(),
                "auth: token signing attempted with verify-only key"
            );
            assert_eq!(error.code(), api::Code::Unknown);
        }
    }
}

fn tampered(jwt: &Jwt, token: &str, at: Duration) {
    for position in 0..token.len() {
        let mut bytes = token.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(jwt.verify(&text, at), None, "{position}");
    }
    for bad in [
        &token[1..],
        &token[..token.len() - 4],
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "....",
        "x",
    ] {
        assert_eq!(jwt.verify(bad, at), None);
    }
    assert_eq!(jwt.verify(&format!("{token}.x"), at), None);
}

/// Signs claims of any form with the key that `HS256,priv-key=secret` has.
fn signed(header: &str, claims: &str) -> String {
    use aws_lc_rs::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key_files()["secret"]);
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What etcd 3.7.3 said to each.
#[test]
fn claims_of_others() {
    let provider = jwt("sign-method=HS256,priv-key=secret");
    let jwt = provider.jwt().unwrap();
    let now = Duration::from_millis(1_000_500);
    let head = r#"{"alg":"HS256","typ":"JWT"}"#;
    for (claims, revision) in [
        (r#"{"username":"ann","revision":8,"exp":1001}"#, Some(8)),
        (r#"{"username":"ann","revision":8}"#, Some(8)),
        (r#"{"username":"ann","revision":8,"exp":0}"#, Some(8)),
        (r#"{"username":"ann","revision":8.5,"exp":1001.9}"#, Some(8)),
        (r#"{"username":"ann","revision":8,"exp":1000.9}"#, None),
        (r#"{"username":"ann","revision":8,"exp":1000}"#, None),
        (r#"{"username":"ann","revision":8,"exp":"1001"}"#, None),
        (r#"{"username":"ann","revision":8,"exp":null}"#, None),
        (r#"{"username":"ann","revision":8,"nbf":1001}"#, None),
        (r#"{"username":"ann","revision":8,"nbf":1000}"#, Some(8)),
        (r#"{"username":"ann","revision":8,"iat":2000}"#, Some(8)),
        (r#"{"username":"ann","revision":-1}"#, Some(0)),
        (r#"{"username":"ann","revision":"8"}"#, None),
        (r#"{"username":"ann"}"#, None),
        (r#"{"username":5,"revision":8}"#, None),
        (r#"{"revision":8}"#, None),
        (r#"["username"]"#, None),
        ("", None),
    ] {
        let found = jwt.verify(&signed(head, claims), now);
        assert_eq!(
            found,
            revision.map(|revision| info("ann", revision)),
            "{claims}"
        );
    }
    let claims = r#"{"username":"ann","revision":8}"#;
    for (head, good) in [
        (r#"{"alg":"HS256"}"#, true),
        (r#"{"alg":"HS256","crit":["x"]}"#, true),
        (r#"{"alg":"HS512"}"#, false),
        (r#"{"alg":"none"}"#, false),
        (r#"{"alg":256}"#, false),
        (r#"{"typ":"JWT"}"#, false),
        ("", false),
    ] {
        assert_eq!(
            jwt.verify(&signed(head, claims), now).is_some(),
            good,
            "{head}"
        );
    }
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    );
    assert_eq!(jwt.verify(&unsigned, now), None);
}

#[test]
fn signed_tokens_keep_the_revision_they_were_made_at() {
    let mut member = Member::with(jwt("sign-method=EdDSA,priv-key=ed.pem"));
    for op in [
        user_add("root"),
        grant_role("root", "root"),
        user_add("ann"),
        enable(),
    ] {
        member.ok(op);
    }
    assert_eq!(
        member
            .view()
            .provider()
            .token_prefix(|_| panic!("no randomness needed")),
        ""
    );
    let AuthResponse::Authenticate(login) = member.ok(login("ann", "")) else {
        panic!()
    };
    assert_eq!(login.token, "");
    let made_at = login.revision;
    let token = member.view().finish_login(login, &At::secs(1000)).unwrap();
    member.ok(role_add("new"));
    assert!(member.revision() > made_at);
    let who = |at| {
        member
            .view()
            .identify(&Credentials::Token(&token), 0, &At::secs(at))
    };
    assert_eq!(who(1299), Ok(Identity::Known(Some(info("ann", made_at)))));
    assert_eq!(who(1300), Err(Error::InvalidAuthToken));
    let ann = AuthInfo {
        ..info("ann", made_at)
    };
    let result = member
        .view()
        .permissions()
        .is_put_permitted(ann.caller(), b"k");
    assert_eq!(result, Err(Error::AuthOldRevision));
}

#[test]
fn no_tokens_at_all() {
    let mut member = Member::with(provider("").unwrap());
    for op in [user_add("root"), grant_role("root", "root"), enable()] {
        member.ok(op);
    }
    let AuthResponse::Authenticate(login) = member.ok(login("root", "x")) else {
        panic!()
    };
    assert_eq!(
        member.view().finish_login(login, &At::default()),
        Ok(String::new())
    );
    let who = member
        .view()
        .identify(&Credentials::Token(""), 0, &At::default());
    assert_eq!(who, Err(Error::InvalidAuthToken));
}

/// The errors are those etcd 3.7.3 refuses to start with.
#[test]
fn options() {
    let invalid = "auth: invalid auth options";
    let missing = "auth: missing key data";
    let mismatch = "auth: public and private keys don't match";
    let not_pem = "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key";
    for (text, expected) in [
        ("simple", ""),
        ("simple,a=b", ""),
        ("simple,ab", invalid),
        ("simple,a=b=c", invalid),
        ("simple,a=b,a=c", invalid),
        ("", ""),
        ("foo", invalid),
        ("jwt", invalid),
        ("jwt,,sign-method=HS256", invalid),
        (
            "jwt,sign-method=none",
            "unsupported signing method: *jwt.signingMethodNone",
        ),
        ("jwt,sign-method=XX", invalid),
        ("jwt,sign-method=rs256,priv-key=rsa.pem", invalid),
        ("jwt,sign-method=RS256", missing),
        ("jwt,sign-method=RS256,priv-key=nofile", invalid),
        ("jwt,sign-method=RS256,priv-key=junk", not_pem),
        ("jwt,sign-method=RS256,priv-key=empty", missing),
        ("jwt,sign-method=RS256,pub-key=junk", not_pem),
        (
            "jwt,sign-method=RS256,pub-key=rsa.pub,priv-key=rsa2.pem",
            mismatch,
        ),
        (
            "jwt,sign-method=RS256,pub-key=p256.pub",
            "key is not a valid RSA public key",
        ),
        (
            "jwt,sign-method=RS256,priv-key=ed.pem",
            "key is not a valid RSA private key",
        ),
        ("jwt,sign-method=ES256", missing),
        (
            "jwt,sign-method=ES256,priv-key=rsa.pem",
            "key is not a valid ECDSA private key",
        ),
        (
            "jwt,sign-method=ES256,pub-key=rsa.pub",
            "key is not a valid ECDSA public key",
        ),
        ("jwt,sign-method=ES256,priv-key=junk", not_pem),
        (
            "jwt,sign-method=ES256,pub-key=p256b.pub,priv-key=p256.pem",
            mismatch,
        ),
        ("jwt,sign-method=EdDSA", missing),
        (
            "jwt,sign-method=EdDSA,priv-key=rsa.pem",
            "key is not a valid Ed25519 private key",
        ),
        (
            "jwt,sign-method=EdDSA,pub-key=ed2.pub,priv-key=ed.pem",
            mismatch,
        ),
        ("jwt,sign-method=HS256", missing),
        ("jwt,sign-method=HS256,pub-key=rsa.pub", missing),
        ("jwt,sign-method=HS256,priv-key=empty", missing),
        ("jwt,sign-method=HS256,priv-key=junk,ttl=xx", invalid),
        ("jwt,sign-method=HS256,priv-key=junk,ttl=", ""),
        ("jwt,sign-method=HS256,priv-key=junk,ttl=0", ""),
        ("jwt,sign-method=HS256,priv-key=junk,ttl=-5m", ""),
        ("jwt,sign-method=HS256,priv-key=junk,zz=1,yy=2", ""),
        (
            "jwt,sign-method=HS256,priv-key=junk,pub-key=nofile",
            invalid,
        ),
        (
            "jwt,sign-method=RS256,ttl=1h,ttl=1h,priv-key=rsa.pem",
            invalid,
        ),
        // Here etcd starts, and every login fails.
        (
            "jwt,sign-method=ES256,priv-key=p384.pem",
            "key is not a valid ECDSA private key",
        ),
    ] {
        let error = provider(text)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert_eq!(error, expected, "{text}");
    }
}

#[test]
fn expired_from_the_start() {
    for ttl in ["0", "-5m"] {
        let provider = jwt(&format!("sign-method=HS256,priv-key=secret,ttl={ttl}"));
        let jwt = provider.jwt().unwrap();
        let now = Duration::from_secs(1000);
        let token = jwt.sign(&info("ann", 1), now).unwrap();
        assert_eq!(jwt.verify(&token, now), None);
    }
}

#[test]
fn keys_are_exchanged_when_the_new_ones_are_good() {
    let ann = info("ann", 1);
    let now = Duration::from_secs(1000);
    let provider = jwt("sign-method=RS256,priv-key=rsa.pem");
    let jwt = provider.jwt().unwrap();
    assert_eq!(jwt.files().collect::<Vec<_>>(), ["rsa.pem"]);
    let old = jwt.sign(&ann, now).unwrap();
    assert_eq!(jwt.verify(&old, now), Some(ann.clone()));
    assert_eq!(jwt.reload(read), Ok(false));
    assert_eq!(
        jwt.reload(|_| read("junk")),
        Err(OptionsError::Key(KeyError::NotPem))
    );
    assert_eq!(jwt.reload(|_| read("nofile")), Err(OptionsError::Invalid));
    assert_eq!(
        jwt.verify(&old, now),
        Some(ann.clone()),
        "the old keys stay"
    );
    assert_eq!(jwt.reload(|_| read("rsa2.pem")), Ok(true));
    assert_eq!(jwt.verify(&old, now), None, "also what was verified before");
    let new = jwt.sign(&ann, now).unwrap();
    assert_eq!(jwt.verify(&new, now), Some(ann));
}

/// SEC 1, PKCS#1 and certificates, as `openssl` writes them.
#[test]
fn keys_in_other_forms() {
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        let output = std::process::Command::new("sh")
            .args(["-c", line])
            .current_dir(dir.path())
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    if !run("openssl version") {
        return testkit::skip::skipped(&testkit::Skip::new("no openssl"));
    }
    for line in [
        "openssl genrsa -traditional -out rsa.pem 2048 || openssl genrsa -out rsa.pem 2048",
        "openssl rsa -in rsa.pem -pubout -out rsa.pub",
        "openssl req -x509 -key rsa.pem -subj /CN=x -days 10 -out rsa.crt",
        "openssl ecparam -name secp521r1 -genkey -out ec.pem",
        "openssl ec -in ec.pem -pubout -out ec.pub",
        "openssl req -x509 -key ec.pem -subj /CN=x -days 10 -out ec.crt",
        "openssl genpkey -algorithm ed25519 -out ed.pem",
        "openssl req -x509 -key ed.pem -subj /CN=x -days 10 -out ed.crt",
    ] {
        assert!(run(line), "{line}");
    }
    let of = |options: &str| {
        let config = TokenConfig::parse(&format!("jwt,{options}"), TTL).unwrap();
        TokenProvider::new(config, |name| std::fs::read(dir.path().join(name)))
            .unwrap_or_else(|error| panic!("{options}: {error}"))
    };
    for (method, private, publics) in [
        ("RS512", "rsa.pem", &["rsa.pub", "rsa.crt"][..]),
        ("ES512", "ec.pem", &["ec.pub", "ec.crt"]),
        ("EdDSA", "ed.pem", &["ed.crt"]),
    ] {
        let ann = info("ann", 7);
        let now = Duration::from_secs(1);
        let signer = of(&format!("sign-method={method},priv-key={private}"));
        let token = signer.jwt().unwrap().sign(&ann, now).unwrap();
        for public in publics {
            let verifier = of(&format!("sign-method={method},pub-key={public}"));
            assert_eq!(
                verifier.jwt().unwrap().verify(&token, now),
                Some(ann.clone()),
                "{public}"
            );
            of(&format!(
                "sign-method={method},pub-key={public},priv-key={private}"
            ));
        }
    }
}

#[test]
fn random_letters() {
    use aws_lc_rs::rand::SecureRandom as _;
    let random = SystemRandom::new();
    let provider = simple();
    let prefix = || provider.token_prefix(|bytes| random.fill(bytes).unwrap());
    assert_ne!(prefix(), prefix());
    assert_eq!(prefix().len(), 16);
}

/// Tokens signed by real etcd are good here, and ours there.
#[test]
fn signed_tokens_are_good_on_both_sides() {
    let program = testkit::need!(testkit::interop::etcd(testkit::Version::V37));
    let long = std::env::var_os("STELE_LONG").is_some();
    let some = ["RS512", "PS384", "ES512", "EdDSA", "HS384"];
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in key_files() {
        let path = dir.path().join(name);
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        io::Write::write_all(&mut file, content).unwrap();
    }
    for (method, private, public) in METHODS {
        if !long && !some.contains(&method) {
            continue;
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut options = format!("jwt,sign-method={method},priv-key={}", path(private));
        if !public.is_empty() && method != "RS512" {
            options = format!("{options},pub-key={}", path(public));
        }
        let server = testkit::Server::builder(&program)
            .arg(format!("--auth-token={options}"))
            .arg("--bcrypt-cost=4")
            .start()
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        let ours = TokenProvider::new(TokenConfig::parse(&options, TTL).unwrap(), |name| {
            std::fs::read(name)
        })
        .unwrap();
        exchange_tokens(&server, ours.jwt().unwrap(), method);
    }
}

fn exchange_tokens(server: &testkit::Server, ours: &Jwt, method: &str) {
    use api::etcdserverpb as pb;
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut auth = testkit::grpc::Clients::new(&server.url()).auth;
        let (name, password) = (String::from("root"), String::from("pw"));
        auth.user_add(pb::AuthUserAddRequest {
            name: name.clone(),
            password: password.clone(),
            ..Default::default()
        })
        .await
        .unwrap();
        auth.user_grant_role(pb::AuthUserGrantRoleRequest {
            user: "root".into(),
            role: "root".into(),
        })
        .await
        .unwrap();
        auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
        let login = auth
            .authenticate(pb::AuthenticateRequest { name, password })
            .await
            .unwrap();
        let theirs = login.into_inner().token;
        assert_eq!(
            ours.verify(&theirs, now()),
            Some(info("root", 3)),
            "{method}"
        );
        let mut request = tonic::Request::new(pb::AuthUserListRequest {});
        let token = ours.sign(&info("root", 3), now()).unwrap();
        request
            .metadata_mut()
            .insert("token", token.parse().unwrap());
        let users = auth
            .user_list(request)
            .await
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(users.into_inner().users, ["root"]);
    });
}

proptest::proptest! {
    /// What clients send is never trusted: no token leads to more than a refusal.
    #[test]
    fn no_token_is_a_surprise(token in "[-.=A-Za-z0-9_{}\"\u{0}\u{ff}]{0,80}", applied in 0..100_u64) {
        static MEMBERS: std::sync::OnceLock<[std::sync::Arc<auth::AuthView>; 3]> =
            std::sync::OnceLock::new();
        let views = MEMBERS.get_or_init(|| {
            let kinds = ["", "simple", "jwt,sign-method=HS256,priv-key=secret"];
            kinds.map(|kind| {
                let mut member = Member::with(provider(kind).unwrap());
                for op in [user_add("root"), grant_role("root", "root"), enable()] {
                    member.ok(op);
                }
                member.view().clone()
            })
        });
        for view in views {
            match view.identify(&Credentials::Token(&token), applied, &At::default()) {
                Ok(Identity::AfterIndex(index)) => proptest::prop_assert!(index > applied),
                result => proptest::prop_assert_eq!(result, Err(Error::InvalidAuthToken)),
            }
        }
    }
}
