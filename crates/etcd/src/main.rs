//! The server program: arguments in, exit code out.

use config::{Input, Outcome, Version};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `--version` and the first log line tell.
const VERSION: Version<'static> = Version {
    release: server::start::SERVER_VERSION,
    commit: match option_env!("STELE_COMMIT") {
        Some(commit) => commit,
        None => "Not provided (set STELE_COMMIT when building)",
    },
    compiler: concat!("rust", env!("CARGO_PKG_RUST_VERSION")),
};

fn main() {
    logging::init();
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect();
    let input = Input {
        args: &args,
        variables: &variables,
        read_file: &|path| std::fs::read(path),
        version: VERSION,
    };
    std::process::exit(match config::parse(&input) {
        Outcome::Exit(exit) => {
            print!("{}", exit.stdout);
            eprint!("{}", exit.stderr);
            exit.records.iter().for_each(logging::emit);
            exit.code
        }
        Outcome::Run(start) => serve(&start),
    });
}

fn serve(start: &config::Start) -> i32 {
    start.early.iter().for_each(logging::emit);
    if let Err(error) = logging::reconfigure(&start.config.logging) {
        config::failure_records(&error.to_string())
            .iter()
            .for_each(logging::emit);
        return 1;
    }
    start.late.iter().for_each(logging::emit);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let config = &start.config;
    let record = |initialized| config.startup_record(&VERSION, initialized, "", (cpus, cpus));
    server::start::run(config, record)
}
