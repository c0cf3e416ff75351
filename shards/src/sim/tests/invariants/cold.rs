//! E8, for a log that is read long after it was written: its pages are loaded where blocking is allowed.

use super::*;

/// Events that earlier lives left undelivered are in segments that are not in memory at all, in the log of the shard and in
/// logs of shards that no longer exist.
#[test]
fn e8_cold_pages_are_read_in_off_the_executor() {
    let mut brought = 0;
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.shards = (1, 3);
        setup.inputs[0].placement = crate::plugin::Placement::Every;
        setup.wal.log_bytes = 16 * setup.wal.segment_bytes;
        let mut cluster = started(setup, 1 + seed as usize % 3);
        kill_outputs(&cluster);
        work(&mut cluster, 40, 40);
        for life in 0..2 {
            cluster.crash(Crash::Process);
            cluster.start(1 + (seed as usize + life) % 2).expect("a crash leaves a directory that can be opened");
            let disk = cluster.simulation.disk().clone();
            disk.evict_pages();
            let cold = disk.absent_pages();
            disk.forbid_blocking(true);
            if life == 1 {
                cluster.heal();
            }
            work(&mut cluster, 20, 20);
            disk.forbid_blocking(false);
            brought += cold - disk.absent_pages();
        }
        let disk = cluster.simulation.disk().clone();
        let faults: Vec<String> = disk.blocked().into_iter().filter(|call| call.ends_with(": page fault")).collect();
        assert_eq!(faults, Vec::<String>::new(), "seed {seed}: task and call");
        cluster.drain(SECOND * 600);
        cluster.finish();
    }
    assert!(brought > 1000, "{brought} pages were brought in");
}
