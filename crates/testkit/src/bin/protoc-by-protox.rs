//! A stand-in for `protoc`, for crates whose build scripts insist on one: compiles the named files into a
//! descriptor set, as `protoc -o <file> -I <dir>… <proto>…` does. Other options are ignored.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut includes, mut files, mut output) = (Vec::new(), Vec::new(), PathBuf::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-I" => includes.extend(args.next().map(PathBuf::from)),
            "-o" => output = args.next().map(PathBuf::from).unwrap_or_default(),
            "--version" => {
                println!("libprotoc 25.0");
                return ExitCode::SUCCESS;
            }
            option if option.starts_with("--descriptor_set_out=") => {
                output = PathBuf::from(&option["--descriptor_set_out=".len()..]);
            }
            option if option.starts_with("-I") => includes.push(PathBuf::from(&option[2..])),
            option if option.starts_with('-') => {}
            file => files.push(PathBuf::from(file)),
        }
    }
    match compile(&files, &includes, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::disallowed_methods)] // a build product, not data
fn compile(files: &[PathBuf], includes: &[PathBuf], output: &PathBuf) -> Result<(), String> {
    let mut compiler = protox::Compiler::new(includes).map_err(|error| format!("{error:?}"))?;
    compiler.include_imports(true).include_source_info(true);
    compiler
        .open_files(files)
        .map_err(|error| format!("{error:?}"))?;
    std::fs::write(output, compiler.encode_file_descriptor_set())
        .map_err(|error| format!("{}: {error}", output.display()))
}
