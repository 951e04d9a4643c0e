//! The one log of the process.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::output::Output;
use crate::sampler::Sampler;
use crate::subscriber::LogSubscriber;
use crate::{Config, Error, Format, Level, Record, Value, format};

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

static PIPELINE: LazyLock<RwLock<Arc<Pipeline>>> =
    LazyLock::new(|| RwLock::new(Arc::new(Pipeline::first())));

/// Everything between a record and its outputs.
#[derive(Debug)]
struct Pipeline {
    format: Format,
    outputs: Vec<Output>,
    /// The journal bounds repetitions itself.
    sampler: Option<Sampler>,
    zone: TimeZone,
}

impl Pipeline {
    fn open(config: &Config) -> Result<Self, Error> {
        let outputs: Vec<Output> = config
            .targets
            .iter()
            .map(Output::open)
            .collect::<Result<_, _>>()?;
        let journal = outputs.iter().any(Output::is_journal);
        Ok(Self {
            format: config.format,
            outputs,
            sampler: (!journal).then(Sampler::new),
            zone: TimeZone::system(),
        })
    }

    /// What works before anything is configured. Without standard error there is nowhere to go.
    fn first() -> Self {
        Self::open(&Config::default()).unwrap_or_else(|_| Self {
            format: Format::Json,
            outputs: Vec::new(),
            sampler: None,
            zone: TimeZone::UTC,
        })
    }

    fn write(&self, record: &Record) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        if self.outputs.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let admit = |sampler: &Sampler| {
            sampler.admit(
                record.level,
                &record.message,
                now.as_second().unsigned_abs(),
            )
        };
        if !self.sampler.as_ref().is_none_or(admit) {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            format::line(line, self.format, record, now, &self.zone);
            for output in &self.outputs {
                output.write(record, line);
            }
            // One huge line must not keep its memory for ever.
            line.shrink_to(16 << 10);
        });
    }
}

/// Takes over the `tracing` events of the process: JSON lines from `info` on to standard error
/// until [`reconfigure`] says otherwise. A second call does nothing.
///
/// Also turns a Rust panic into a line of level `panic` and exit code 2, as a panic ends a Go
/// program.
pub fn init() {
    if tracing::subscriber::set_global_default(LogSubscriber).is_ok() {
        std::panic::set_hook(Box::new(|info| {
            emit(&panic_record(info));
            eprintln!("{info}\n{}", std::backtrace::Backtrace::capture());
            std::process::exit(2);
        }));
    }
}

fn panic_record(info: &PanicHookInfo<'_>) -> Record {
    let message = info.payload_as_str().unwrap_or("panic").to_owned();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let mut place = String::new();
    if let Some(location) = info.location() {
        let _ = write!(place, "{location}");
    }
    Record::new(Level::Panic, message)
        .field("thread", thread)
        .field("location", place)
}

/// Opens the outputs of `config` and writes to them from now on. On an error nothing changes.
pub fn reconfigure(config: &Config) -> Result<(), Error> {
    let pipeline = Arc::new(Pipeline::open(config)?);
    *PIPELINE.write().unwrap_or_else(PoisonError::into_inner) = pipeline;
    set_level(config.level);
    Ok(())
}

/// Changes which lines are written, at once and for all threads.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// The lowest level that is written.
pub fn level() -> Level {
    Level::from_index(LEVEL.load(Ordering::Relaxed))
}

/// Writes a record if its level is high enough. Blocks while an output blocks.
pub fn emit(record: &Record) {
    if record.level >= level() {
        let pipeline = PIPELINE
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        pipeline.write(record);
    }
}

/// Writes a line of level `fatal` and ends the process with exit code 1.
#[track_caller]
pub fn fatal(message: &str, fields: &[(&'static str, Value)]) -> ! {
    let record = with_fields(Record::new(Level::Fatal, message.to_owned()), fields);
    emit(&record);
    std::process::exit(1);
}

/// Writes a line of level `panic` and ends the process with exit code 2: where etcd panics and
/// operators know the code.
#[track_caller]
pub fn panic(message: &str, fields: &[(&'static str, Value)]) -> ! {
    let record = with_fields(Record::new(Level::Panic, message.to_owned()), fields);
    emit(&record);
    std::process::exit(2);
}

fn with_fields(mut record: Record, fields: &[(&'static str, Value)]) -> Record {
    record.fields = fields
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect();
    record
}
