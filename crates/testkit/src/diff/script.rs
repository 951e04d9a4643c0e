//! The language of scripts.

use std::time::Duration;

/// A parsed script.
///
/// One step per line; blank lines and lines that begin with `#` are skipped.
///
/// | line | meaning |
/// |---|---|
/// | `put a 1` | runs `etcdctl put a 1` |
/// | `[simple json] get a` | runs it once per output format |
/// | `put big <<END` … `END` | runs it with the lines up to `END` as standard input |
/// | `etcdutl snapshot status f` | runs the offline tool |
/// | `env NAME=VALUE put a 1` | runs it with an environment variable |
/// | `@watch w a --prefix` | starts `etcdctl watch a --prefix` in the background as `w` |
/// | `@start w lock l1` | the same for any command, with an open standard input |
/// | `@type w progress` | writes a line to its standard input |
/// | `@lines w 4` | waits until it has printed at least four lines |
/// | `@stop w` | interrupts it and compares what it printed |
/// | `@finish w` | waits until it ends by itself and compares what it printed |
/// | `@capture ID "lease " " granted"` | remembers the text between the two of the last standard output as `$ID` |
/// | `@repeat BIG x 1000000` | `$BIG` stands for so many `x`, for standard input |
/// | `@sleep 300ms` | waits (both sides) |
/// | `@restart`, `@kill` | SIGTERM or SIGKILL, then a start on the same directory |
/// | `@mask hash` | hashes are not compared in the rest of the script (lease ids are part of them) |
/// | `@unordered` | the lines of the next command's output may come in any order |
/// | `@server --flag=value` | a flag of both servers |
///
/// Words are split at blanks; `'…'` is raw, `"…"` knows `\n`, `\t`, `\"`, `\\`, `\xNN`. `$ID` stands for a captured text.
#[derive(Clone, Debug)]
pub struct Script {
    /// File name or other name for messages.
    pub name: String,
    /// Flags of both servers.
    pub server_args: Vec<String>,
    /// What to do, with line numbers.
    pub steps: Vec<(usize, Step)>,
}

/// An output format of `etcdctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// No `-w` at all.
    Default,
    /// `-w simple`
    Simple,
    /// `-w json`
    Json,
    /// `-w fields`
    Fields,
    /// `-w table`
    Table,
    /// `-w protobuf`
    Protobuf,
}

impl Format {
    /// The name as given to `-w`; none for the default.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Simple => Some("simple"),
            Self::Json => Some("json"),
            Self::Fields => Some("fields"),
            Self::Table => Some("table"),
            Self::Protobuf => Some("protobuf"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [
            Self::Simple,
            Self::Json,
            Self::Fields,
            Self::Table,
            Self::Protobuf,
        ]
        .into_iter()
        .find(|format| format.name() == Some(word))
    }
}

/// A word of a command line: bytes, with `$ID` still in it.
pub type Word = Vec<u8>;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Run a command to its end.
    Run {
        /// Output format.
        format: Format,
        /// Whether it is `etcdutl`.
        offline: bool,
        /// Environment.
        env: Vec<(String, String)>,
        /// Arguments.
        words: Vec<Word>,
        /// Standard input.
        input: Option<String>,
    },
    /// Start a command in the background.
    Start {
        /// Its name in the script.
        name: String,
        /// Arguments.
        words: Vec<Word>,
    },
    /// Write a line to a background command.
    Type {
        /// Which.
        name: String,
        /// What.
        line: String,
    },
    /// Wait until a background command has printed that many lines.
    Lines {
        /// Which.
        name: String,
        /// How many.
        count: usize,
    },
    /// Interrupt a background command, or wait for its end, and take its output.
    Stop {
        /// Which.
        name: String,
        /// Whether to interrupt it.
        interrupt: bool,
    },
    /// Remember a piece of the last output.
    Capture {
        /// As what.
        name: String,
        /// The text before it.
        before: String,
        /// The text after it.
        after: String,
    },
    /// Define a long text.
    Repeat {
        /// Its name.
        name: String,
        /// What is repeated.
        text: String,
        /// How often.
        count: usize,
    },
    /// Wait.
    Sleep(Duration),
    /// Restart the server.
    Restart {
        /// With SIGKILL instead of SIGTERM.
        kill: bool,
    },
    /// Hashes differ from here on.
    MaskHash,
    /// The next output has no order.
    Unordered,
}

/// A line that is no step.
#[derive(Debug, thiserror::Error)]
#[error("{name}:{line}: {what}")]
pub struct ScriptError {
    name: String,
    line: usize,
    what: String,
}

impl Script {
    /// Parses the text of a script.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScriptError> {
        let mut script = Self {
            name: name.to_owned(),
            server_args: Vec::new(),
            steps: Vec::new(),
        };
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (line, end) = match line.split_once("<<") {
                Some((command, end)) => (command.trim(), Some(end.trim())),
                None => (line, None),
            };
            let input = end.map(|end| {
                lines
                    .by_ref()
                    .map(|(_, line)| line)
                    .take_while(|line| line.trim() != end)
                    .fold(String::new(), |text, line| text + line + "\n")
            });
            script
                .line(line_number, line, input.as_deref())
                .map_err(|what| ScriptError {
                    name: name.to_owned(),
                    line: line_number,
                    what,
                })?;
        }
        Ok(script)
    }

    fn line(&mut self, number: usize, line: &str, input: Option<&str>) -> Result<(), String> {
        if let Some(directive) = line.strip_prefix('@') {
            if let Some(step) = self.directive(directive)? {
                self.steps.push((number, step));
            }
            return Ok(());
        }
        let (formats, line) = formats(line)?;
        let mut words = split(line)?;
        let mut env = Vec::new();
        if words.first().is_some_and(|word| word == b"env") {
            let text =
                String::from_utf8_lossy(words.get(1).ok_or("env without NAME=VALUE")?).into_owned();
            let (name, value) = text.split_once('=').ok_or("env needs NAME=VALUE")?;
            env.push((name.to_owned(), value.to_owned()));
            words.drain(..2);
        }
        let offline = words.first().is_some_and(|word| word == b"etcdutl");
        if offline {
            words.remove(0);
        }
        for format in formats {
            self.steps.push((
                number,
                Step::Run {
                    format,
                    offline,
                    env: env.clone(),
                    words: words.clone(),
                    input: input.map(str::to_owned),
                },
            ));
        }
        Ok(())
    }

    fn directive(&mut self, line: &str) -> Result<Option<Step>, String> {
        let words = split(line)?;
        let text = |index: usize| -> Result<String, String> {
            words
                .get(index)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .ok_or_else(|| format!("@{line}: a word is missing"))
        };
        let rest = |count: usize| words[count.min(words.len())..].to_vec();
        Ok(Some(match text(0)?.as_str() {
            "watch" => Step::Start {
                name: text(1)?,
                words: [vec![b"watch".to_vec()], rest(2)].concat(),
            },
            "start" => Step::Start {
                name: text(1)?,
                words: rest(2),
            },
            "type" => Step::Type {
                name: text(1)?,
                line: line
                    .splitn(3, ' ')
                    .nth(2)
                    .ok_or("nothing to type")?
                    .to_owned(),
            },
            "lines" => Step::Lines {
                name: text(1)?,
                count: text(2)?.parse().map_err(|_| "not a number of lines")?,
            },
            "stop" => Step::Stop {
                name: text(1)?,
                interrupt: true,
            },
            "finish" => Step::Stop {
                name: text(1)?,
                interrupt: false,
            },
            "capture" => Step::Capture {
                name: text(1)?,
                before: text(2)?,
                after: text(3)?,
            },
            "repeat" => Step::Repeat {
                name: text(1)?,
                text: text(2)?,
                count: text(3)?.parse().map_err(|_| "not a number")?,
            },
            "sleep" => Step::Sleep(duration(&text(1)?)?),
            "restart" => Step::Restart { kill: false },
            "kill" => Step::Restart { kill: true },
            "mask" if text(1)? == "hash" => Step::MaskHash,
            "unordered" => Step::Unordered,
            "server" => {
                self.server_args.push(text(1)?);
                return Ok(None);
            }
            other => return Err(format!("unknown directive @{other}")),
        }))
    }
}

/// Takes `[simple json]` off the line.
fn formats(line: &str) -> Result<(Vec<Format>, &str), String> {
    let Some((names, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return Ok((vec![Format::Default], line));
    };
    let formats = names
        .split_whitespace()
        .map(|name| Format::parse(name).ok_or_else(|| format!("unknown format {name}")))
        .collect::<Result<_, _>>()?;
    Ok((formats, rest.trim()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1000)
    } else {
        return Err(format!("not a duration: {text}"));
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("not a duration: {text}"))?;
    Ok(Duration::from_millis(number * scale))
}

/// Splits a line into words.
fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a ' is not closed")? {
                        '\'' => break,
                        c => push(word, c),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            c => push(word.get_or_insert_default(), c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(chars: &mut std::str::Chars<'_>, word: &mut Word) -> Result<(), String> {
    let mut next = || chars.next().ok_or("a \" is not closed");
    loop {
        match next()? {
            '"' => return Ok(()),
            '\\' => match next()? {
                'n' => word.push(b'\n'),
                't' => word.push(b'\t'),
                'x' => {
                    let digits: String = [next()?, next()?].iter().collect();
                    word.push(u8::from_str_radix(&digits, 16).map_err(|_| "\\x needs two digits")?);
                }
                c => push(word, c),
            },
            c => push(word, c),
        }
    }
}

fn push(word: &mut Word, c: char) {
    let mut buffer = [0; 4];
    word.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line)
            .unwrap()
            .into_iter()
            .map(|word| String::from_utf8_lossy(&word).into_owned())
            .collect()
    }

    #[test]
    fn words_know_quotes_and_escapes() {
        assert_eq!(
            words(r#"put  a "b c\x41" 'd "e' """#),
            ["put", "a", "b cA", "d \"e", ""]
        );
        assert!(split("put \"a").is_err());
    }

    #[test]
    fn a_line_runs_once_per_format_and_takes_its_input() {
        let script = Script::parse("t", "# x\n[simple json] txn <<E\na\n\nE\nput a b\n").unwrap();
        assert_eq!(script.steps.len(), 3);
        let Step::Run { input, format, .. } = &script.steps[1].1 else {
            panic!("a command expected");
        };
        assert_eq!(input.as_deref(), Some("a\n\n"));
        assert_eq!(*format, Format::Json);
        assert_eq!(script.steps[2].0, 6);
    }

    #[test]
    fn an_unknown_directive_is_named_with_its_line() {
        let error = Script::parse("t", "put a b\n@what").unwrap_err();
        assert_eq!(error.to_string(), "t:2: unknown directive @what");
    }
}
