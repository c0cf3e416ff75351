//! The program: arguments in, exit code out. Everything else is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tailwater::cli::main(std::env::args_os()).into()
}
