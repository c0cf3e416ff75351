//! The target `expression` for libFuzzer. Built without it, the program replays the files that it is given.
#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tailwater_fuzz::run("expression", data));

#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::process::ExitCode {
    tailwater_fuzz::replay("expression")
}
