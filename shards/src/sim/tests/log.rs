//! The simulator tested by what it detects: a log of a few lines, correct and with the three classic mistakes.

use super::*;
use crate::sim::oracle::{Event, Oracle, OutputIndex, payload_hash};
use crate::sim::prng::mix;

/// Forty records fill several pages. With a single page, the next append would write it again and so save it.
const RECORD_BYTES: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// Acknowledges when the write returns, before the sync.
    AcknowledgesBeforeSync,
    /// Never syncs the directory that names the log.
    ForgetsDirectory,
    /// Calls sync again after it failed, and trusts the second result.
    RetriesFailedSync,
}

fn record(ordinal: u64) -> (Event, [u8; RECORD_BYTES as usize]) {
    let payload = payload_hash(&ordinal.to_le_bytes());
    let mut bytes = [0; RECORD_BYTES as usize];
    bytes[..8].copy_from_slice(&ordinal.to_le_bytes());
    bytes[8..16].copy_from_slice(&payload.to_le_bytes());
    bytes[16..24].copy_from_slice(&mix(ordinal ^ payload).to_le_bytes());
    (Event { source: 1, ordinal, payload }, bytes)
}

async fn write_log(env: SimEnv, oracle: Rc<RefCell<Oracle>>, mistake: Mistake) -> std::io::Result<()> {
    let file = Arc::new(env.disk().open(Path::new("/data/log"), Open::Create)?);
    if mistake != Mistake::ForgetsDirectory {
        env.disk().sync_dir(Path::new("/data"))?;
    }
    for ordinal in 0..600 {
        let (event, bytes) = record(ordinal);
        oracle.borrow_mut().issued(event);
        oracle.borrow_mut().offered(1, ordinal, 1);
        file.write_at(&bytes, ordinal * RECORD_BYTES)?;
        if mistake == Mistake::AcknowledgesBeforeSync {
            oracle.borrow_mut().acknowledged(1, ordinal, 1);
        }
        if ordinal % 40 == 39 {
            let mut synced = env.sync(&file).await;
            if mistake == Mistake::RetriesFailedSync && synced.is_err() {
                synced = env.sync(&file).await;
            }
            synced?;
            (ordinal - 39..=ordinal).for_each(|ordinal| oracle.borrow_mut().acknowledged(1, ordinal, 1));
        }
        env.turn().await;
    }
    Ok(())
}

/// Writes, crashes at a moment chosen by the seed, recovers. Returns whether the oracle found a violation.
fn caught(seed: u64, mistake: Mistake) -> bool {
    let mut simulation = Simulation::new(seed);
    let mut chance = simulation.prng("faults");
    let disk = simulation.disk().clone();
    disk.outside().create_dir_all("/data").unwrap();
    disk.outside().sync_all();
    let oracle = Rc::new(RefCell::new(Oracle::new(&["recovered"])));
    disk.crash_after(chance.between(1, 650));
    let sync_that_fails = Duration::from_micros(chance.below(50_000));
    let env = simulation.env(ShardId(0));
    let history = Rc::clone(&oracle);
    env.clone().spawn("log", async move { drop(write_log(env, history, mistake).await) });
    if simulation.run_for(sync_that_fails) == Outcome::TimeOut && chance.one_in(2) {
        disk.fail_syncs(1);
    }
    simulation.run_for(SECOND * 60);
    let kind = if chance.percent(80) { Crash::Power } else { Crash::Process };
    simulation.crash(kind);
    let mut oracle = oracle.borrow_mut();
    oracle.restarted();
    for (ordinal, bytes) in
        disk.outside().read("/data/log").unwrap_or_default().chunks(RECORD_BYTES as usize).enumerate()
    {
        let (event, expected) = record(ordinal as u64);
        if bytes != expected {
            break;
        }
        oracle.delivered(OutputIndex(0), 0, event);
    }
    oracle.check().is_err()
}

#[test]
fn a_right_log_keeps_its_promise_on_every_seed() {
    let broken: Vec<u64> = (0..300).filter(|&seed| caught(seed, Mistake::None)).collect();
    assert!(broken.is_empty(), "seeds {broken:?}");
}

#[test]
fn each_classic_mistake_is_caught() {
    for mistake in [Mistake::AcknowledgesBeforeSync, Mistake::ForgetsDirectory, Mistake::RetriesFailedSync] {
        let seeds = (0..300).filter(|&seed| caught(seed, mistake)).count();
        assert!(seeds >= 10, "{mistake:?} was caught on {seeds} of 300 seeds");
    }
}
