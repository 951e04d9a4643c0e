//! The lines operators look for. A process has one log, so this file has one test.

mod common;

use common::{Authority, Dir, client, connection, dns, ip, meet, nobody, server};
use tls::{Ends, Protocol, ServerOptions, ServerTls};
use tokio::io::AsyncWriteExt as _;

/// The fields of the newest line, without time and place in the source.
fn newest(path: &std::path::Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().last().unwrap_or_default();
    let (level, rest) = line.split_once(",\"ts\":").unwrap();
    let message = rest.find("\"msg\":").unwrap();
    format!("{level},{}", &rest[message..])
}

#[tokio::test]
async fn refusals_are_logged_with_etcds_fields() {
    let dir = Dir::new();
    let log = dir.at("log");
    logging::init();
    logging::reconfigure(&logging::Config {
        level: logging::Level::Debug,
        targets: vec![logging::Target::File(log.clone())],
        ..logging::Config::default()
    })
    .unwrap();

    let ca = Authority::new("ca");
    let mut files = dir.trusting("server", &ca.server(), &ca);
    let alice = ca.issue("alice", |params| {
        params.subject_alt_names = vec![dns("client.local"), ip("10.9.9.9")];
    });
    let visitor = client(&dir.trusting("alice", &alice, &ca));

    // Before the certificate is verified its names are not shown.
    let port = server(&files);
    let _ = meet(&port, &nobody(&dir, &ca)).await;
    let line = newest(&log);
    let begin = "{\"level\":\"warn\",\"msg\":\"rejected connection on client endpoint\",\"remote-addr\":\"127.0.0.1:";
    assert!(line.starts_with(begin), "{line}");
    assert!(
        line.ends_with(
            ",\"server-name\":\"\",\"error\":\"tls: client didn't provide a certificate\"}"
        ),
        "{line}"
    );

    // Afterwards they are.
    files.allowed_cn = vec!["bob".into()];
    let peer = ServerTls::new(&files, &Protocol::default(), ServerOptions::peer()).unwrap();
    let _ = meet(&peer, &visitor).await;
    let line = newest(&log);
    assert!(
        line.contains("\"msg\":\"rejected connection on peer endpoint\""),
        "{line}"
    );
    let end = ",\"server-name\":\"\",\"ip-addresses\":[\"10.9.9.9\"],\"dns-names\":[\"client.local\"],\
               \"error\":\"client certificate authentication failed\"}";
    assert!(line.ends_with(end), "{line}");

    // The name a client asked for is shown.
    let (here, there) = connection().await;
    let ends = Ends::of(&here);
    let stranger = nobody(&dir, &Authority::new("other"));
    let (refusal, _) = tokio::join!(
        port.accept(here, &ends),
        stranger.connect(there, "localhost")
    );
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "remote error: tls: bad certificate"
    );
    assert!(newest(&log).contains("\"server-name\":\"localhost\""));

    // Who just leaves is hardly worth a line.
    let (here, mut there) = connection().await;
    let ends = Ends::of(&here);
    there.shutdown().await.unwrap();
    let _ = port.accept(here, &ends).await;
    let line = newest(&log);
    assert!(
        line.starts_with("{\"level\":\"debug\"") && line.ends_with("\"error\":\"EOF\"}"),
        "{line}"
    );

    // Bad files are reported once.
    dir.put("server.key", "junk");
    port.refresh();
    let line = newest(&log);
    assert!(
        line.starts_with(
            "{\"level\":\"error\",\"msg\":\"TLS files have changed and cannot be used; the previous ones stay in use\""
        ),
        "{line}"
    );
    let lines = std::fs::read_to_string(&log).unwrap().lines().count();
    port.refresh();
    assert_eq!(
        std::fs::read_to_string(&log).unwrap().lines().count(),
        lines
    );
}
