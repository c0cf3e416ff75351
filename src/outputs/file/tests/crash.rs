//! A crash at every operation: in the end, every event is in the files once.

use super::*;

/// Events of one history.
const EVENTS: u64 = 60;

const PATHS: [&str; 3] = ["/out/a.log", "/out/deep/b.log", "/out/c.log"];

fn path_of(event: u64) -> &'static str {
    // Runs of one path, so that files become unused and are used again.
    PATHS[(event / 7 % 3) as usize]
}

fn line(event: u64) -> String {
    format!("event {event} {}\n", "x".repeat((event * 37 % 50) as usize))
}

/// The engine: what it committed, and how far it is.
struct Engine {
    commits: Vec<(u64, State)>,
    clock: u64,
}

impl Engine {
    /// One run; returns whether it delivered everything.
    fn live(&mut self, disk: &SimDisk, options: &Options) -> bool {
        let lived = self.try_live(disk, options);
        assert!(lived.is_ok() || disk.crashed(), "failed without a crash: {lived:?}");
        lived.is_ok()
    }

    fn try_live(&mut self, disk: &SimDisk, options: &Options) -> Result<(), String> {
        let (mut next, state) = self.commits.last().cloned().unwrap_or_default();
        let mut writer = open(disk, options, state).map_err(|error| error.to_string())?;
        let mut deliveries = 0;
        while next < EVENTS {
            self.clock += 100;
            let now = now(self.clock);
            let end = (next + 1 + next % 5).min(EVENTS);
            if writer.is_waiting() {
                writer.flush(now)?;
            }
            let mut groups: Vec<Group> = Vec::new();
            for event in next..end {
                match groups.iter_mut().find(|group| group.path == path_of(event).as_bytes()) {
                    Some(group) => group.bytes.extend_from_slice(line(event).as_bytes()),
                    None => groups.push(group(path_of(event), &line(event))),
                }
            }
            writer.accept(groups, now)?;
            next = end;
            deliveries += 1;
            if deliveries % 3 == 0 || next == EVENTS {
                let state = writer.commit(now)?;
                let mut bytes = Vec::new();
                state.encode(&mut bytes);
                self.commits.push((next, State::decode(&bytes).ok_or("a state that does not read back")?));
            }
            if deliveries % 4 == 0 {
                writer.look_after(now)?;
            }
        }
        Ok(())
    }

    /// What is in the WAL after a crash: after a kill all commits, after a power loss possibly without the last ones.
    fn lose(&mut self, kind: Crash, prng: &mut Prng) {
        let lost = if kind == Crash::Power { prng.below(3) as usize } else { 0 };
        self.commits.truncate(self.commits.len().saturating_sub(lost));
    }
}

/// Crashes a history after `operations`, and again later, then lets it end. Returns false if it ended before the first crash.
fn crash_at(operations: u64, kind: Crash, seed: u64, options: &Options) -> bool {
    let disk = SimDisk::new(seed);
    disk.set_inode_reuse(seed % 2 == 1);
    disk.outside().create_dir_all("/out").expect("it is new");
    disk.outside().create_dir_all("/data").expect("it is new");
    disk.outside().sync_all();
    let mut prng = Prng::new(seed, "crash");
    let mut engine = Engine { commits: Vec::new(), clock: 0 };
    disk.crash_after(operations);
    let mut crashes = 0;
    while !engine.live(&disk, options) {
        assert!(disk.crashed(), "seed {seed}, {operations} operations: failed without a crash");
        disk.crash(kind);
        engine.lose(kind, &mut prng);
        crashes += 1;
        match crashes {
            1 | 2 => disk.crash_after(1 + prng.below(40)),
            _ => disk.crash_after(u64::MAX),
        }
    }
    for path in PATHS {
        let expected: String = (0..EVENTS).filter(|event| path_of(*event) == path).map(line).collect();
        let found = content(&disk.outside(), path, options.compression);
        assert!(
            found == expected,
            "{kind:?} after {operations} operations, seed {seed}, {options:?}: {path} holds\n{found}instead of\n{expected}"
        );
    }
    crashes > 0
}

fn every_crash(kind: Crash, options: &Options, seeds: u64) {
    let mut operations = 0;
    loop {
        let crashed: Vec<bool> =
            (0..seeds).map(|round| crash_at(operations, kind, operations * 1000 + round, options)).collect();
        if !crashed[0] {
            assert!(operations > 30, "only {operations} operations");
            return;
        }
        operations += 1;
    }
}

fn rotating() -> Options {
    Options { rotate_bytes: Some(200), ..options() }
}

fn crowded(options: Options) -> Options {
    Options { open_files_max: 1, ..options }
}

#[test]
fn kill_at_any_operation_repeats_nothing() {
    every_crash(Crash::Process, &options(), 2);
    every_crash(Crash::Process, &rotating(), 2);
    every_crash(Crash::Process, &crowded(options()), 2);
    every_crash(Crash::Process, &crowded(rotating()), 2);
}

#[test]
fn power_loss_at_any_operation_repeats_and_loses_nothing() {
    every_crash(Crash::Power, &options(), 3);
    every_crash(Crash::Power, &rotating(), 3);
    every_crash(Crash::Power, &crowded(options()), 3);
    every_crash(Crash::Power, &crowded(rotating()), 3);
}

#[test]
fn compressed_files_are_whole_after_any_crash() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let rotating = Options { compression, rotate_bytes: Some(150), ..options() };
        for kind in [Crash::Process, Crash::Power] {
            every_crash(kind, &Options { compression, ..options() }, 1);
            every_crash(kind, &crowded(rotating.clone()), 1);
        }
    }
}
