//! Deliberate defects of the engine, enabled in a simulation, so that a test can prove that the oracle detects them.
//!
//! Guarantees: only the simulated disk can enable a defect ([`crate::env::Disk::sabotaged`]), and only on the thread that
//! requested it, while the guard lives. Code for another disk has no such branch.

use crate::env::Sabotage;
use std::cell::Cell;

/// All of them.
pub const ALL: [Sabotage; 17] = [
    Sabotage::SkipChecksum,
    Sabotage::RetryFailedSync,
    Sabotage::AcknowledgeEarly,
    Sabotage::CommitEarly,
    Sabotage::RecycleEarly,
    Sabotage::ForgetLetters,
    Sabotage::MixInstances,
    Sabotage::SettleEarly,
    Sabotage::RefuseCommits,
    Sabotage::AppendFirstPart,
    Sabotage::ForgetStates,
    Sabotage::ReleaseHeld,
    Sabotage::DropOversized,
    Sabotage::KeepLettersEarly,
    Sabotage::PassGate,
    Sabotage::RetireEarly,
    Sabotage::StartAtEnd,
];

thread_local! {
    static PRESENT: Cell<Option<Sabotage>> = const { Cell::new(None) };
}

/// Disables the defect when it is dropped.
pub struct Guard(());

/// Enables this defect of the engine in simulations on this thread, or none.
pub fn commit(sabotage: Option<Sabotage>) -> Guard {
    PRESENT.set(sabotage);
    Guard(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        PRESENT.set(None);
    }
}

pub(super) fn is_made(sabotage: Sabotage) -> bool {
    PRESENT.get() == Some(sabotage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Disk;
    use crate::glommio_env::RealDisk;
    use crate::sim::SimDisk;

    #[test]
    fn a_real_disk_is_never_sabotaged() {
        for sabotage in ALL {
            let guard = commit(Some(sabotage));
            assert!(SimDisk::sabotaged(sabotage));
            assert!(!RealDisk::sabotaged(sabotage), "{sabotage:?}");
            drop(guard);
            assert!(!SimDisk::sabotaged(sabotage));
        }
    }
}
