//! Sets `cfg(loom)` for this crate alone, so that the ordinary test run builds the models and nothing else is built twice.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
