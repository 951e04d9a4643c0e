//! Plays a script to one server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::Side;
use super::normal::{Normaliser, protobuf};
use super::script::{Format, Script, Step, Word};
use crate::etcdctl::{Etcdctl, Output, code, finish};
use crate::server::Server;
use crate::wait;

/// What one command answered.
#[derive(Clone, Debug)]
pub struct Record {
    /// Line of the script.
    pub line: usize,
    /// The command as the script has it.
    pub label: String,
    /// Exit code and normalised texts.
    pub output: Output,
    /// Whether the order of lines means nothing.
    pub unordered: bool,
}

/// A command in the background.
struct Background {
    child: Child,
    label: String,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

/// Plays the script and stops the server.
///
/// # Panics
/// When the script uses a name it has not defined, or the server does not come back from a restart.
pub fn play(script: &Script, side: &Side, server: Server) -> Vec<Record> {
    let mut player = Player {
        normal: Normaliser::new(&server),
        etcdctl: server.etcdctl(&side.etcdctl),
        etcdutl: {
            let mut tool = Etcdctl::offline(&side.etcdutl);
            tool.dir = Some(server.home().to_path_buf());
            tool
        },
        server,
        captured: BTreeMap::new(),
        background: BTreeMap::new(),
        last: String::new(),
        unordered: false,
        mask_hash: false,
        records: Vec::new(),
    };
    for (line, step) in &script.steps {
        player.step(*line, step, &script.name);
    }
    player.finish()
}

struct Player {
    server: Server,
    etcdctl: Etcdctl,
    etcdutl: Etcdctl,
    normal: Normaliser,
    captured: BTreeMap<String, String>,
    background: BTreeMap<String, Background>,
    /// Standard output of the last command, not normalised.
    last: String,
    unordered: bool,
    /// Hashes are not compared any more.
    mask_hash: bool,
    /// The answers as they came, and whether hashes in them are masked.
    records: Vec<(Record, bool)>,
}

impl Player {
    /// Names what was captured anywhere in the script, in the answers before the capture, too.
    fn finish(mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
            .into_iter()
            .map(|(mut record, mask_hash)| {
                record.output = self.normal.output(record.output, mask_hash);
                record
            })
            .collect()
    }

    fn step(&mut self, line: usize, step: &Step, script: &str) {
        match step {
            Step::Run {
                format,
                offline,
                env,
                words,
                input,
            } => self.run(line, *format, *offline, env, words, input.as_deref()),
            Step::Start { name, words } => {
                let background = self.start(words);
                self.background.insert(name.clone(), background);
            }
            Step::Type { name, line: text } => {
                let command = self.background(name, script, line);
                if let Some(stdin) = command.child.stdin.as_mut() {
                    let _ = stdin.write_all(format!("{text}\n").as_bytes());
                }
            }
            Step::Lines { name, count } => {
                let stdout = self.background(name, script, line).stdout.clone();
                // Too few lines show up as a difference when the output is compared.
                wait::until(Duration::from_secs(10), || {
                    let text = stdout.lock().unwrap_or_else(PoisonError::into_inner);
                    (text.split(|byte| *byte == b'\n').count() > *count).then_some(())
                });
                let text = stdout.lock().unwrap_or_else(PoisonError::into_inner);
                self.last = String::from_utf8_lossy(&text).into_owned();
            }
            Step::Stop { name, interrupt } => self.stop(line, name, *interrupt, script),
            Step::Capture {
                name,
                before,
                after,
            } => {
                let value = between(&self.last, before, after).unwrap_or_default();
                self.normal.capture(name, &value);
                self.captured.insert(name.clone(), value);
            }
            Step::Repeat { name, text, count } => {
                self.captured.insert(name.clone(), text.repeat(*count));
            }
            Step::Sleep(time) => std::thread::sleep(*time),
            Step::Restart { kill } => {
                if *kill {
                    self.server.kill();
                } else {
                    self.server.stop();
                }
                self.server
                    .restart()
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            Step::MaskHash => self.mask_hash = true,
            Step::Unordered => self.unordered = true,
        }
    }

    fn run(
        &mut self,
        line: usize,
        format: Format,
        offline: bool,
        env: &[(String, String)],
        words: &[Word],
        input: Option<&str>,
    ) {
        let mut tool = if offline {
            &self.etcdutl
        } else {
            &self.etcdctl
        }
        .clone();
        tool.env.extend_from_slice(env);
        let mut args = self.words(words);
        if let Some(name) = format.name() {
            // In front: everything after `--` of a watch or lock belongs to another command.
            args.insert(0, format!("--write-out={name}").into());
        }
        let mut command = tool.command(args);
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut output = finish(
            command,
            self.substitute(input.unwrap_or_default()).as_bytes(),
        );
        self.last = output.out();
        if format == Format::Protobuf {
            output.stdout = protobuf(&output.stdout).into_bytes();
        }
        let label = label(words, format, offline);
        self.record(line, label, output);
    }

    fn start(&mut self, words: &[Word]) -> Background {
        let mut command = self.etcdctl.command(self.words(words));
        command.stdin(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl can be started");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().expect("captured"), &stdout),
            collect(child.stderr.take().expect("captured"), &stderr),
        ];
        Background {
            child,
            label: label(words, Format::Default, false),
            stdout,
            stderr,
            readers,
        }
    }

    fn stop(&mut self, line: usize, name: &str, interrupt: bool, script: &str) {
        let Some(mut command) = self.background.remove(name) else {
            panic!("{script}:{line}: nothing is called {name}");
        };
        if interrupt && let Some(pid) = Pid::from_raw(command.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, Signal::INT);
        }
        let status = wait::until(Duration::from_secs(10), || {
            command.child.try_wait().ok().flatten()
        });
        let status = status.unwrap_or_else(|| {
            let _ = command.child.kill();
            command.child.wait().expect("a killed child ends")
        });
        for reader in command.readers.drain(..) {
            let _ = reader.join();
        }
        let take = |bytes: &Mutex<Vec<u8>>| {
            std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let output = Output {
            code: code(status),
            stdout: take(&command.stdout),
            stderr: take(&command.stderr),
        };
        self.last = output.out();
        let label = std::mem::take(&mut command.label);
        self.record(line, label, output);
    }

    fn record(&mut self, line: usize, label: String, output: Output) {
        let unordered = std::mem::take(&mut self.unordered);
        let record = Record {
            line,
            label,
            output,
            unordered,
        };
        self.records.push((record, self.mask_hash));
    }

    fn background(&mut self, name: &str, script: &str, line: usize) -> &mut Background {
        self.background
            .get_mut(name)
            .unwrap_or_else(|| panic!("{script}:{line}: nothing is called {name}"))
    }

    fn words(&self, words: &[Word]) -> Vec<OsString> {
        words
            .iter()
            .map(|word| match std::str::from_utf8(word) {
                Ok(text) => self.substitute(text).into(),
                Err(_) => OsString::from_vec(word.clone()),
            })
            .collect()
    }

    fn substitute(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.captured {
            text = text.replace(&format!("${name}"), value);
        }
        text
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, to: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            to.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&buffer[..count]);
        }
    })
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0.to_owned())
}

fn label(words: &[Word], format: Format, offline: bool) -> String {
    let mut label = String::from(if offline { "etcdutl" } else { "etcdctl" });
    if let Some(name) = format.name() {
        label.push_str(" -w ");
        label.push_str(name);
    }
    for word in words {
        label.push(' ');
        label.push_str(&String::from_utf8_lossy(word).escape_debug().to_string());
    }
    label
}
