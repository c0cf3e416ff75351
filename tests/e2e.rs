//! End to end: the real binary, real files, real signals.
//!
//! Terms: the *product* is the binary that `TAILWATER_BIN` names, or the one of this build. It runs as a child process, and
//! this test contains none of its code. A *case* is the directory, configuration and processes of one test. Lines are
//! *numbered*, so that a lost, repeated or changed line is detected.
//!
//! Guarantees: no order of events depends on a pause, and every wait has a condition and a deadline. A WARN or ERROR line in
//! the product's log that a case did not announce fails the case.

#[path = "e2e/admin.rs"]
mod admin;
#[path = "e2e/bad_config.rs"]
mod bad_config;
#[path = "e2e/bad_disk.rs"]
mod bad_disk;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/broken_disk.rs"]
mod broken_disk;
#[path = "e2e/case.rs"]
mod case;
#[path = "e2e/crowd.rs"]
mod crowd;
#[path = "e2e/dead_letters.rs"]
mod dead_letters;
#[path = "e2e/descriptors.rs"]
mod descriptors;
#[path = "e2e/directories.rs"]
mod directories;
#[path = "e2e/disks.rs"]
mod disks;
#[path = "e2e/files.rs"]
mod files;
#[path = "e2e/forged.rs"]
mod forged;
#[path = "e2e/found.rs"]
mod found;
#[path = "e2e/full_disk.rs"]
mod full_disk;
#[path = "e2e/hanging.rs"]
mod hanging;
#[path = "e2e/hanging_files.rs"]
mod hanging_files;
#[path = "e2e/hollow.rs"]
mod hollow;
#[path = "e2e/identity.rs"]
mod identity;
#[path = "e2e/json.rs"]
mod json;
#[path = "e2e/kill.rs"]
mod kill;
#[path = "e2e/leaving.rs"]
mod leaving;
#[path = "e2e/lines.rs"]
mod lines;
#[path = "e2e/links.rs"]
mod links;
#[path = "e2e/many_files.rs"]
mod many_files;
#[path = "e2e/memory.rs"]
mod memory;
#[path = "e2e/metrics.rs"]
mod metrics;
#[path = "e2e/network.rs"]
mod network;
#[path = "e2e/output_holders.rs"]
mod output_holders;
#[path = "e2e/output_places.rs"]
mod output_places;
#[path = "e2e/output_strangers.rs"]
mod output_strangers;
#[path = "e2e/outputs.rs"]
mod outputs;
#[path = "e2e/overflow.rs"]
mod overflow;
#[path = "e2e/product.rs"]
mod product;
#[path = "e2e/restart.rs"]
mod restart;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/running.rs"]
mod running;
#[path = "e2e/service.rs"]
mod service;
#[path = "e2e/spread.rs"]
mod spread;
#[path = "e2e/starvation.rs"]
mod starvation;
#[path = "e2e/stdin.rs"]
mod stdin;
#[path = "e2e/stop.rs"]
mod stop;
#[path = "e2e/strain.rs"]
mod strain;
#[path = "e2e/together.rs"]
mod together;
#[path = "e2e/truncation.rs"]
mod truncation;
#[path = "e2e/verbs.rs"]
mod verbs;
#[path = "e2e/wait.rs"]
mod wait;
