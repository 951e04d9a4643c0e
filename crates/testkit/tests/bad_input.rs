//! Directories, ports and flags a server must refuse, or repair: ours and real etcd are started on equal copies
//! and must end alike, with the same message where a person or script depends on it, and leave the files alone.

#![allow(clippy::disallowed_methods)]

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::grpc::Clients;
use testkit::interop::{self, Version};
use testkit::load::{Ledger, Load, LoadConfig};
use testkit::{Builder, Server, Skip, etcdctl, files, need, own, wait};

/// A directory made by real etcd: 200 revisions, ended by SIGKILL, so that part of them is only in the WAL.
fn directory() -> Result<TempDir, Skip> {
    let real = interop::etcd(Version::V37)?;
    let home = TempDir::with_prefix("stele-bad-").expect("a temporary directory");
    let dir = home.path().join("data");
    let mut server = Builder::new(real)
        .data_dir(&dir)
        .start()
        .expect("real etcd starts");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut clients = Clients::new(&server.url());
        for number in 0..200 {
            let value = format!("{number}-{}", "v".repeat(300));
            clients
                .put(&format!("k{}", number % 50), &value)
                .await
                .unwrap();
            if number == 150 {
                // Real etcd commits to the database file every 100 ms.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    });
    server.kill();
    Ok(home)
}

/// How a start ended.
#[derive(Debug)]
struct Outcome {
    /// None: it serves.
    code: Option<i32>,
    log: String,
    changes: Vec<String>,
    /// Key-value hash when it serves.
    hash: Option<testkit::grpc::KvHash>,
}

impl Outcome {
    /// Whether any line of the log holds this text.
    fn says(&self, text: &str) -> bool {
        self.log.contains(text)
    }

    fn tail(&self) -> String {
        let lines: Vec<&str> = self.log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// Starts on a copy of `dir`.
fn attempt(program: &Path, dir: &Path, change: impl FnOnce(Builder) -> Builder) -> Outcome {
    let home = TempDir::with_prefix("stele-bad-").expect("a temporary directory");
    // Others must be able to get to it for the tests without permission.
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = home.path().join("data");
    if dir.is_dir() {
        files::copy_dir(dir, &copy);
    } else if dir.exists() {
        fs::copy(dir, &copy).unwrap();
    }
    let before = files::state(home.path());
    let builder = Builder::new(program)
        .data_dir(&copy)
        .limit(Duration::from_secs(30));
    let mut server = change(builder).spawn();
    match server.wait_ready() {
        Ok(()) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let hash =
                runtime.block_on(async { Clients::new(&server.url()).hash_kv(0).await.ok() });
            Outcome {
                code: None,
                log: server.log(),
                changes: Vec::new(),
                hash,
            }
        }
        Err(testkit::StartError::Exited { status, log }) => Outcome {
            code: Some(etcdctl::code(status)),
            log,
            changes: files::changes(&before, &files::state(home.path())),
            hash: None,
        },
        Err(late) => panic!("{}: {late}", program.display()),
    }
}

/// Starts both on copies of `dir`.
fn both(dir: &Path, change: impl Fn(Builder) -> Builder) -> Result<(Outcome, Outcome), Skip> {
    let real = interop::etcd(Version::V37)?;
    let pair = (
        attempt(&own::etcd(), dir, &change),
        attempt(&real, dir, &change),
    );
    println!(
        "ours: {:?} {:?}\n{}",
        pair.0.code,
        pair.0.changes,
        pair.0.tail()
    );
    println!(
        "real: {:?} {:?}\n{}",
        pair.1.code,
        pair.1.changes,
        pair.1.tail()
    );
    Ok(pair)
}

/// Both refuse with exit code 1 and these words, and neither has touched a file.
fn refused_alike(dir: &Path, words: &[&str], change: impl Fn(Builder) -> Builder) {
    let (ours, real) = need!(both(dir, change));
    for (name, outcome) in [("ours", &ours), ("real", &real)] {
        assert_eq!(outcome.code, Some(1), "{name}: {}", outcome.tail());
        for word in words {
            assert!(
                outcome.says(word),
                "{name} does not say {word:?}:\n{}",
                outcome.tail()
            );
        }
    }
    untouched(dir, &ours, &real);
}

/// A directory that is refused stays as it is (real etcd touches the database file before it looks at the log).
/// Where there was none, ours may leave what real etcd leaves.
fn untouched(dir: &Path, ours: &Outcome, real: &Outcome) {
    if own::is_real() {
        return;
    }
    let name = |change: &str| change.split(':').next().unwrap_or_default().to_owned();
    let allowed: Vec<String> = real.changes.iter().map(|change| name(change)).collect();
    let wrong: Vec<&String> = ours
        .changes
        .iter()
        .filter(|change| dir.exists() || !allowed.contains(&name(change)))
        .collect();
    assert!(wrong.is_empty(), "ours changed files: {wrong:#?}");
}

/// Ours refuses cleanly what real etcd refuses or dies of.
fn refused(dir: &Path, words: &[&str]) {
    let (ours, real) = need!(both(dir, |builder| builder));
    assert!(real.code.is_some(), "real etcd serves this");
    assert!(
        matches!(ours.code, Some(1 | 2)),
        "{:?}\n{}",
        ours.code,
        ours.tail()
    );
    assert!(!ours.says("panicked at"), "{}", ours.tail());
    for word in words {
        assert!(
            ours.says(word),
            "ours does not say {word:?}:\n{}",
            ours.tail()
        );
    }
    untouched(dir, &ours, &real);
}

/// Both serve the same history.
fn repaired_alike(dir: &Path) {
    let (ours, real) = need!(both(dir, |builder| builder));
    assert_eq!(
        (ours.code, real.code),
        (None, None),
        "ours:\n{}",
        ours.tail()
    );
    assert_eq!(ours.hash, real.hash);
}

fn db(home: &TempDir) -> PathBuf {
    home.path().join("data/member/snap/db")
}

fn wal(home: &TempDir) -> PathBuf {
    files::last_wal(&home.path().join("data"))
}

/// The offset behind the last byte of a WAL segment that is not zero.
fn wal_end(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

fn write_at(path: &Path, bytes: &[u8], offset: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_data_dir_without_permission() {
    if Command::new("setpriv").arg("--version").output().is_err()
        || !rustix::process::getuid().is_root()
    {
        return testkit::skip::skipped(&Skip::new("needs root and setpriv"));
    }
    let home = need!(directory());
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    refused_alike(
        &home.path().join("data"),
        &["permission denied"],
        |builder| builder.wrapper(&nobody),
    );
}

#[test]
fn a_data_dir_that_is_a_file() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("data");
    fs::write(&file, "x").unwrap();
    refused_alike(&file, &["not a directory"], |builder| builder);
}

/// The second server waits for the file lock; it serves once the first one is gone.
#[test]
fn a_data_dir_in_use() {
    for program in [own::etcd(), need!(interop::etcd(Version::V37))] {
        let mut first = Server::fresh(&program);
        let mut second = Builder::new(&program).data_dir(first.data_dir()).spawn();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(second.exited().is_none(), "{}", second.log());
        assert!(
            !second.log().contains("ready to serve"),
            "two servers on one directory"
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { Clients::new(&first.url()).put("a", "1").await.unwrap() });
        first.stop();
        second.wait_ready().unwrap();
        let (kv, _) =
            runtime.block_on(async { Clients::new(&second.url()).get("a", 0).await.unwrap() });
        assert_eq!(kv.unwrap().value, "1");
    }
}

#[test]
fn a_database_file_cut_in_the_middle() {
    let home = need!(directory());
    let file = OpenOptions::new().write(true).open(db(&home)).unwrap();
    // The file is longer than what is used of it; keep the meta pages and a little.
    file.set_len(4 * 4096).unwrap();
    refused(&home.path().join("data"), &[]);
}

#[test]
fn a_database_file_of_a_hundred_bytes() {
    let home = need!(directory());
    OpenOptions::new()
        .write(true)
        .open(db(&home))
        .unwrap()
        .set_len(100)
        .unwrap();
    refused(&home.path().join("data"), &["failed to open database"]);
}

#[test]
fn a_database_file_with_both_meta_pages_damaged() {
    let home = need!(directory());
    write_at(&db(&home), &[0xa5; 64], 16);
    write_at(&db(&home), &[0xa5; 64], 4096 + 16);
    refused(&home.path().join("data"), &["failed to open database"]);
}

/// One damaged meta page is what a torn write leaves; the other one is used.
#[test]
fn a_database_file_with_one_meta_page_damaged() {
    for page in [0, 4096] {
        let home = need!(directory());
        write_at(&db(&home), &[0xa5; 64], page + 16);
        repaired_alike(&home.path().join("data"));
    }
}

#[test]
fn a_database_file_that_is_missing() {
    let home = need!(directory());
    fs::remove_file(db(&home)).unwrap();
    let (ours, real) = need!(both(&home.path().join("data"), |builder| builder));
    assert_eq!(ours.code, real.code, "{}", ours.tail());
    assert_eq!(ours.hash, real.hash);
}

#[test]
fn a_wal_damaged_in_the_middle() {
    let home = need!(directory());
    let wal = wal(&home);
    write_at(&wal, &[0x5a, 0xa5], wal_end(&wal) / 2);
    refused_alike(&home.path().join("data"), &["crc mismatch"], |builder| {
        builder
    });
}

#[test]
fn a_wal_cut_in_its_last_record() {
    let home = need!(directory());
    let wal = wal(&home);
    let file = OpenOptions::new().write(true).open(&wal).unwrap();
    file.set_len(wal_end(&wal) - 5).unwrap();
    repaired_alike(&home.path().join("data"));
}

#[test]
fn a_wal_whose_last_sector_was_never_written() {
    let home = need!(directory());
    let wal = wal(&home);
    let end = wal_end(&wal);
    let sector = (end - 1) / 512 * 512;
    write_at(&wal, &vec![0; (end - sector) as usize], sector);
    repaired_alike(&home.path().join("data"));
}

#[test]
fn an_empty_wal_file() {
    let home = need!(directory());
    OpenOptions::new()
        .write(true)
        .open(wal(&home))
        .unwrap()
        .set_len(0)
        .unwrap();
    let (ours, real) = need!(both(&home.path().join("data"), |builder| builder));
    assert_eq!(ours.code.is_some(), real.code.is_some(), "{}", ours.tail());
    assert!(!ours.says("panicked at"), "{}", ours.tail());
}

#[test]
fn a_file_with_a_strange_name_among_the_wal_segments() {
    let home = need!(directory());
    fs::write(home.path().join("data/member/wal/notes.txt"), "x").unwrap();
    fs::write(home.path().join("data/notes.txt"), "x").unwrap();
    repaired_alike(&home.path().join("data"));
}

#[test]
fn a_client_port_in_use() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let flag = format!("--listen-client-urls=http://127.0.0.1:{port}");
    let text = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    let home = TempDir::new().unwrap();
    refused_alike(&home.path().join("none"), &[&text], |builder| {
        builder.arg(&flag)
    });
}

#[test]
fn a_peer_port_in_use() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let flag = format!("--listen-peer-urls=http://127.0.0.1:{port}");
    let text = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    let home = TempDir::new().unwrap();
    refused_alike(&home.path().join("none"), &[&text], |builder| {
        builder.arg(&flag)
    });
}

#[test]
fn a_cluster_the_member_is_not_part_of() {
    let home = TempDir::new().unwrap();
    refused_alike(
        &home.path().join("none"),
        &["couldn't find local name \\\"m1\\\" in the initial cluster configuration"],
        |builder| builder.arg("--initial-cluster=other=http://127.0.0.1:2380"),
    );
}

/// Arguments that never get as far as a directory: exit code and the first line of standard error.
#[test]
fn flags_that_are_wrong() {
    let real = need!(interop::etcd(Version::V37));
    let cases: [&[&str]; 6] = [
        &["--nonsense"],
        &["--experimental-corrupt-check-time=1s"],
        &["--heartbeat-interval=abc"],
        &["--listen-client-urls=http://localhost"],
        &["positional"],
        &["--log-level=nonsense"],
    ];
    for args in cases {
        let run = |program: &Path| {
            let home = TempDir::new().unwrap();
            let output = Command::new(program)
                .args(args)
                .current_dir(home.path())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let plain = text.lines().find(|line| !line.starts_with('{'));
            let first = plain.or(text.lines().next()).unwrap_or_default().to_owned();
            (etcdctl::code(output.status), first)
        };
        let (ours, real) = (run(&own::etcd()), run(&real));
        assert_eq!(ours.0, real.0, "{args:?}: {} | {}", ours.1, real.1);
        if !real.1.starts_with('{')
            && !real.1.starts_with("panic")
            && !real.1.starts_with("goroutine")
        {
            assert_eq!(ours.1, real.1, "{args:?}");
        }
    }
}

/// A small file system that fills up under load: nothing acknowledged is lost, and with more space the server
/// goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let mount = need!(Tmpfs::mount(150));
    let mut server = Builder::new(own::etcd())
        .data_dir(mount.path().join("data"))
        .args(&["--quota-backend-bytes=4294967296"])
        .start()
        .unwrap();
    let mut ledger = Ledger::default();
    let config = LoadConfig {
        value_size: 20_000,
        keys: 200,
        readers: 0,
        ..LoadConfig::default()
    };
    let load = Load::start(&server.url(), config, &ledger);
    // It may stop, as real etcd does, or go on refusing; but writes are not acknowledged any more.
    let mut last = load.acknowledged();
    let mut quiet = 0;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = load.acknowledged();
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        if quiet >= 20 || server.exited().is_some() {
            break;
        }
    }
    assert!(
        quiet >= 20 || server.exited().is_some(),
        "the disk never filled up"
    );
    println!("ended: {:?}", server.exited());
    server.kill();
    load.stop(&mut ledger).await;
    assert!(ledger.writes > 100, "{} writes", ledger.writes);

    mount.resize(600);
    server.restart().unwrap();
    let broken = ledger.check(&server.url()).await;
    assert!(broken.is_empty(), "{broken:#?}");
    Clients::new(&server.url()).put("after", "1").await.unwrap();
}

/// A file system in memory; unmounted when dropped.
struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    fn mount(megabytes: u32) -> Result<Self, Skip> {
        let dir = TempDir::with_prefix("stele-tmpfs-").expect("a temporary directory");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(dir.path())
            .output()
            .map_err(|error| Skip::new(format!("mount cannot run: {error}")))?;
        if output.status.success() {
            return Ok(Self { dir });
        }
        Err(Skip::new("a tmpfs cannot be mounted (needs root)"))
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn resize(&self, megabytes: u32) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,size={megabytes}m")])
            .arg(self.dir.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmount = || {
            Command::new("umount")
                .arg(self.dir.path())
                .status()
                .ok()?
                .success()
                .then_some(())
        };
        let _ = wait::until(Duration::from_secs(5), unmount);
    }
}
