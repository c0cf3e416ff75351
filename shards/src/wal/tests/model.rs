//! Random histories compared with a model: appends, syncs, commits, recycling, process deaths and power losses.
//!
//! The model consists of three numbers: how many events were appended, published and acknowledged. What a reader finds must be
//! consecutive, reach at least as far as was promised, and end exactly where the positions say.

use super::*;
use crate::sim::Prng;

struct History {
    machine: Machine,
    prng: Prng,
    seed: u64,
    /// Events appended, published, acknowledged, and released by the reader.
    appended: u64,
    published: u64,
    acknowledged: u64,
    /// What the next life must find: published events survive a process death, and only acknowledged ones survive a power loss.
    promised: u64,
    /// What it may find: a failed write may have written everything.
    attempted: u64,
    released: u64,
    commits: u64,
    /// Where each life continued.
    begun: std::collections::BTreeSet<u64>,
}

impl History {
    fn new(seed: u64) -> History {
        let prng = Prng::new(seed, "history");
        History {
            machine: Machine::new(seed, 4096, 6),
            prng,
            seed,
            appended: 0,
            published: 0,
            acknowledged: 0,
            promised: 0,
            attempted: 0,
            released: 0,
            commits: 0,
            begun: std::collections::BTreeSet::new(),
        }
    }

    /// One life of the process. False if the disk stopped it before it was open.
    fn live(&mut self, power: bool) -> bool {
        let disk = self.machine.disk();
        if power {
            disk.crash_after(self.prng.between(1, 120));
        }
        let Ok(mut writer) = self.machine.try_open() else {
            assert!(disk.crashed(), "seed {}: only a crash keeps a log from opening", self.seed);
            return false;
        };
        self.check(&writer);
        (self.published, self.acknowledged) = (self.appended, self.appended);
        let reader = writer.log().register(Position::default(), Arc::default());
        writer.log().allow_recycling();
        let source = source();
        for _ in 0..self.prng.between(1, 60) {
            if self.step(&mut writer, &reader, &source).is_err() {
                assert!(disk.crashed(), "seed {}: only a crash fails a step", self.seed);
                break;
            }
        }
        true
    }

    fn step(
        &mut self,
        writer: &mut TestWriter,
        reader: &Arc<super::log::Reader>,
        source: &Arc<Source>,
    ) -> Result<(), WalError> {
        let disk = self.machine.disk().of_this_process();
        match self.prng.below(10) {
            0..=5 => {
                let frames: Vec<u64> = (0..self.prng.between(1, 3)).map(|_| self.prng.between(1, 4)).collect();
                let padding = self.prng.index(120);
                self.attempted = self.attempted.max(self.appended + frames.iter().sum::<u64>());
                let mut group = group(writer, source, self.appended, &frames, padding);
                let staged = self.prng.one_in(2);
                match if staged { writer.stage(&mut group) } else { writer.append(&mut group) } {
                    Ok(_) => self.appended += frames.iter().sum::<u64>(),
                    Err(WalError::Full) => {
                        assert!(!writer.has_staged(), "seed {}: it makes no room", self.seed);
                        // It is not retried: the part of it that is in the log is delivered once more.
                        self.begun.insert(self.appended);
                    }
                    Err(error) => return Err(error),
                }
                if !writer.has_staged() {
                    self.published = self.appended;
                }
            }
            6..=7 => {
                writer.flush()?;
                self.published = self.appended;
                sync(writer, &disk)?;
                self.acknowledged = self.appended;
            }
            8 => {
                self.commits += 1;
                match writer.commit(&commit_of(self.commits, writer.log().end())) {
                    Ok(_) | Err(WalError::Full) => {}
                    Err(error) => return Err(error),
                }
                assert!(!writer.has_staged(), "seed {}: what was appended before a commit is published", self.seed);
                self.published = self.appended;
                sync(writer, &disk)?;
                self.acknowledged = self.appended;
                self.released = self.appended;
                writer.log().release(reader, writer.log().end());
            }
            _ => drop(maintain(writer)?),
        }
        Ok(())
    }

    /// Compares the recovered state with the model, and updates the model: what was lost is read again.
    fn check(&mut self, writer: &TestWriter) {
        let seed = self.seed;
        let held = read(writer.log(), Position::default());
        // The rest of a group of several appends precedes what was read again.
        let follows = |pair: &[u64]| pair[0] + 1 == pair[1] || self.begun.contains(&pair[1]);
        assert!(held.windows(2).all(follows), "seed {seed}: {held:?}");
        let state = writer.state().sources.get(SourceKey(7));
        let end = state.map_or(0, SourceState::end);
        assert!(state.is_none_or(|state| state.intervals == [(0, end)]), "seed {seed}: a hole in {state:?}");
        assert!(state.is_none_or(|state| state.marker == end * 10), "seed {seed}");
        assert!(end >= self.promised, "seed {seed}: {} were promised, {end} are left", self.promised);
        assert!(end <= self.attempted, "seed {seed}");
        if let (Some(first), Some(last)) = (held.first(), held.last()) {
            let whole = (end..=self.attempted).contains(&(last + 1));
            assert!(whole, "seed {seed}: the positions go as far as the events");
            assert!(*first <= self.released, "seed {seed}: nothing goes before its reader has had it");
        } else {
            assert!(end <= self.released, "seed {seed}");
        }
        self.begun.insert(end);
        (self.appended, self.published, self.attempted) = (end, end, end);
    }
}

#[test]
fn random_histories_keep_every_promise() {
    for seed in 0..400 {
        let mut history = History::new(seed);
        for _ in 0..6 {
            let power = history.prng.one_in(2);
            history.live(power);
            history.promised = if power { history.acknowledged } else { history.published };
            history.machine.simulation.crash(if power { Crash::Power } else { Crash::Process });
        }
        let writer = history.machine.open();
        history.check(&writer);
    }
}
