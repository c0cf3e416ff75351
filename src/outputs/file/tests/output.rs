//! The files in usual and unusual situations, through the output as the engine uses it.

use super::super::Settings;
use super::*;
use crate::config::component::{Component, Facts, OutputSettings};
use crate::outputs::encoding::testing::{delivery, piece};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::counters::OutputCounters;
use tailwater_shards::env::{Env, ShardId};
use tailwater_shards::plugin::{Column, Delivery, Outcome, Output, OutputContext, OutputSpec, PluginError, Resume};
use tailwater_shards::sim::{SimEnv, Simulation};
use tailwater_shards::wal::OutputNumber;

/// 2026-11-23T00:12:34Z.
const MOMENT: u64 = 1_795_392_754_000_000_000;

pub(super) struct Fixture {
    pub(super) simulation: Simulation,
    pub(super) settings: Settings,
    output: Option<Box<dyn Output>>,
    /// Kept over openings, as the engine does, until the settings change.
    spec: Option<(Settings, Arc<dyn OutputSpec<SimEnv>>)>,
    state_bytes_max: usize,
    pub(super) counters: Arc<OutputCounters>,
}

impl Fixture {
    pub(super) fn new(json: serde_json::Value) -> Fixture {
        let simulation = Simulation::new(3);
        simulation.disk().outside().create_dir_all("/out").expect("it is new");
        simulation.disk().outside().create_dir_all("/data").expect("it is new");
        let settings: Settings = serde_json::from_value(json).expect("settings");
        assert_eq!(settings.check(), [], "they make sense");
        let (state_bytes_max, counters) = (COMMIT_STATE_BYTES_MAX, Default::default());
        let mut fixture = Fixture { simulation, settings, output: None, spec: None, state_bytes_max, counters };
        fixture.open(Some(Vec::new())).unwrap_or_else(|error| panic!("{error}"));
        fixture
    }

    pub(super) fn disk(&self) -> Outside {
        self.simulation.disk().outside()
    }

    pub(super) fn run<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let slot = Rc::new(RefCell::new(None));
        let result = slot.clone();
        self.simulation.env(ShardId(0)).spawn("test", async move { *result.borrow_mut() = Some(future.await) });
        self.simulation.must("the call ends", || slot.borrow().is_some(), Duration::from_secs(7200));
        slot.take().expect("it ended")
    }

    pub(super) fn open(&mut self, state: Option<Vec<u8>>) -> Result<(), PluginError> {
        self.resume(match state {
            Some(state) => Resume::whole(state),
            None => Resume { state: Vec::new(), again_bytes: None },
        })
    }

    pub(super) fn resume(&mut self, resume: Resume) -> Result<(), PluginError> {
        if let Some(output) = self.output.take() {
            // A job closes its files.
            let env = self.simulation.env(ShardId(0));
            self.run(async move {
                drop(output);
                env.sleep(Duration::from_secs(1)).await;
            });
        }
        let context = OutputContext {
            env: self.simulation.env(ShardId(0)),
            name: "out".into(),
            number: OutputNumber(1),
            data_dir: Arc::new("/data".into()),
            state_bytes_max: self.state_bytes_max,
            stop: Default::default(),
            counters: self.counters.clone(),
        };
        let spec = match self.spec.take().filter(|(settings, _)| *settings == self.settings) {
            Some((_, spec)) => spec,
            None => OutputSettings::<SimEnv>::spec(&self.settings, &Facts::of("h"), "out"),
        };
        self.spec = Some((self.settings.clone(), spec.clone()));
        self.output = Some(self.run(async move { spec.open(context, resume).await })?);
        Ok(())
    }

    pub(super) fn deliver(&mut self, delivery: Delivery<'static>) -> Outcome {
        let mut output = self.output.take().expect("open");
        let (output, outcome) = self.run(async move {
            let outcome = output.deliver(&delivery).await;
            (output, outcome)
        });
        self.output = Some(output);
        outcome
    }

    pub(super) fn delivered(&mut self, lines: &[&str]) {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
        let outcome = self.deliver(delivery(&lines, MOMENT));
        assert!(matches!(outcome, Outcome::Delivered), "{outcome:?}");
    }

    pub(super) fn refused(&mut self, lines: &[&str]) -> String {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
        match self.deliver(delivery(&lines, MOMENT)) {
            Outcome::Retry { error, .. } => error,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(super) fn commit(&mut self) -> Result<Vec<u8>, PluginError> {
        let mut output = self.output.take().expect("open");
        let (output, result) = self.run(async move {
            let mut state = Vec::new();
            let result = output.commit(&mut state).await.map(|()| state);
            (output, result)
        });
        self.output = Some(output);
        result
    }

    /// The sync that the engine begins before a commit.
    pub(super) fn sync(&mut self) -> Result<(), PluginError> {
        let work = self.output.as_mut().expect("open").begin_sync();
        self.run(work)
    }

    pub(super) fn tick(&mut self) {
        let mut output = self.output.take().expect("open");
        self.output = Some(self.run(async move {
            output.tick().await;
            output
        }));
    }

    pub(super) fn close(&mut self) {
        let mut output = self.output.take().expect("open");
        self.run(async move { output.close().await });
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let env = self.simulation.env(ShardId(0));
        self.run(async move { env.sleep(time).await });
    }

    pub(super) fn text(&self, path: &str) -> String {
        String::from_utf8(self.disk().read(path).unwrap_or_else(|error| panic!("{path}: {error}"))).expect("text")
    }
}

pub(super) fn constant() -> serde_json::Value {
    serde_json::json!({"path": "/out/x.log"})
}

#[test]
fn events_go_to_the_path_of_their_date_and_fields() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/%H.log"}));
    let lines: Vec<String> = ["a", "b", "a", "../../etc"].iter().map(|h| format!("{{\"h\":\"{h}\"}}\n")).collect();
    let times = [0, 0, 3600, 0].iter().flat_map(|seconds| (MOMENT + seconds * 1_000_000_000).to_le_bytes()).collect();
    let mut delivery = Delivery::default();
    delivery.push(piece(&lines, Column::Each(std::borrow::Cow::Owned(times))));
    assert!(matches!(fixture.deliver(delivery), Outcome::Delivered));
    for (path, line) in [("a/00", 0), ("b/00", 1), ("a/01", 2), ("%2E.%2F..%2Fetc/00", 3)] {
        assert_eq!(fixture.text(&format!("/out/{path}.log")), lines[line]);
    }
}

#[test]
fn text_is_written_byte_for_byte() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "encode": "text"}));
    let messages = ["plain", "", "tab\t\"quote\" \\ \u{1} ü € 𝄞", "\r"];
    for round in 0..2 {
        let lines: Vec<String> =
            messages.iter().map(|text| serde_json::json!({"offset": 1, "message": text}).to_string()).collect();
        fixture.delivered(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let expected: String = messages.iter().map(|text| format!("{text}\n")).collect();
        assert_eq!(fixture.text("/out/x.log"), expected.repeat(round + 1));
    }
}

#[test]
fn text_is_one_line_and_an_event_without_a_message_is_rejected() {
    for path in ["/out/x.log", "/out/{{ h }}.log"] {
        let mut fixture = Fixture::new(serde_json::json!({"path": path, "encode": "text"}));
        let lines = [
            r#"{"h":"x","message":"one"}"#,
            r#"{"h":"x","a":1}"#,
            r#"{"h":"x","message":"two\nERROR forged"}"#,
            r#"{"h":"x","message":null}"#,
        ];
        for round in 1..3 {
            let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
            let Outcome::Rejected(refused) = fixture.deliver(delivery(&lines, MOMENT)) else {
                panic!("all were taken")
            };
            let why = "it has no `message` to write as text".to_owned();
            assert_eq!(refused, [(1, why.clone()), (3, why)]);
            assert_eq!(fixture.text("/out/x.log"), "one\ntwo\\nERROR forged\n".repeat(round));
        }
    }
    let settings =
        serde_json::json!({"path": "/out/x.log", "encode": "text", "newlines": "keep", "without_message": "json"});
    let mut fixture = Fixture::new(settings);
    fixture.delivered(&[r#"{"message":"a\nb"}"#, r#"{"a":1}"#]);
    assert_eq!(fixture.text("/out/x.log"), "a\nb\n{\"a\":1}\n");
}

#[test]
fn rotation_keeps_as_many_files_as_configured() {
    let rotate = serde_json::json!({"bytes": 20, "keep": 2});
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "rotate": rotate}));
    for number in 0..9 {
        fixture.delivered(&[&format!("{{\"n\":{number}}}"), "{\"m\":0}"]);
    }
    assert_eq!(fixture.disk().list("/out").expect("a directory").len(), 3);
    assert_eq!(fixture.text("/out/x.log.2"), "{\"n\":6}\n{\"m\":0}\n");
    assert_eq!(fixture.text("/out/x.log.1"), "{\"n\":7}\n{\"m\":0}\n");
    assert_eq!(fixture.text("/out/x.log"), "{\"n\":8}\n{\"m\":0}\n");
}

#[test]
fn large_delivery_is_split_between_lines() {
    let rotate = serde_json::json!({"bytes": 50, "keep": 100});
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "rotate": rotate}));
    let lines: Vec<String> = (0..100).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}", "y".repeat(n % 60))).collect();
    fixture.delivered(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    for name in fixture.disk().list("/out").expect("a directory") {
        let text = fixture.text(&format!("/out/{}", name.to_string_lossy()));
        assert!(text.len() <= 50 || text.lines().count() == 1, "{text}");
    }
    let all = content(&fixture.disk(), "/out/x.log", Compression::None);
    assert_eq!(all, lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn old_file_is_rotated_without_new_events() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "rotate": {"age": "1h"}}));
    fixture.delivered(&["{}"]);
    fixture.tick();
    assert!(fixture.disk().exists("/out/x.log"));
    let env = fixture.simulation.env(ShardId(0));
    fixture.run(async move { env.sleep(Duration::from_secs(3601)).await });
    fixture.tick();
    assert!(!fixture.disk().exists("/out/x.log"));
    assert_eq!(fixture.text("/out/x.log.1"), "{}\n");
    fixture.delivered(&["{\"a\":1}"]);
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n");
}

#[test]
fn file_moved_by_others_is_closed() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    fixture.disk().rename("/out/x.log", "/out/x.log-20261123").expect("it is there");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.tick();
    fixture.delivered(&["{\"a\":3}"]);
    fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/x.log-20261123"), "{\"a\":1}\n{\"a\":2}\n");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":3}\n");
    assert!(fixture.disk().clean("/out/x.log-20261123").expect("a file"), "the commit covers it");
}

#[test]
fn file_removed_by_others_gets_no_more_lines() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    fixture.disk().remove("/out/x.log").expect("it is there");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":2}\n");
}

#[test]
fn compressed_files_stay_within_their_limit() {
    for how in [Compression::Gzip, Compression::Zstd] {
        let rotate = serde_json::json!({"bytes": 4096, "keep": 100});
        let settings = serde_json::json!({"path": "/out/x.log", "rotate": rotate, "compression": how});
        let mut fixture = Fixture::new(settings);
        let lines: Vec<String> =
            (0..2000u64).map(|n| format!("{{\"n\":{}}}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        for part in lines.chunks(300) {
            fixture.delivered(&part.iter().map(String::as_str).collect::<Vec<_>>());
        }
        fixture.commit().expect("it commits");
        let lengths: Vec<usize> = fixture
            .disk()
            .list("/out")
            .expect("a directory")
            .iter()
            .map(|name| fixture.disk().read(format!("/out/{}", name.to_string_lossy())).expect("a file").len())
            .collect();
        assert!(lengths.len() > 3 && lengths.iter().all(|length| *length <= 4096), "{how:?}: {lengths:?}");
        assert!(lengths.iter().filter(|length| **length < 3500).count() <= 1, "{how:?}: {lengths:?}");
        let all = content(&fixture.disk(), "/out/x.log", how);
        assert_eq!(all, lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }
}

#[test]
fn output_continues_at_the_end_of_a_truncated_file() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    fixture.disk().truncate("/out/x.log", 0).expect("it is there");
    fixture.tick();
    fixture.delivered(&["{\"a\":2}"]);
    let state = fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":2}\n");
    fixture.disk().truncate("/out/x.log", 3).expect("it is there");
    fixture.open(Some(state)).unwrap_or_else(|error| panic!("{error}"));
    fixture.delivered(&["{\"a\":3}"]);
    assert_eq!(fixture.text("/out/x.log"), "{\"a\n{\"a\":3}\n");
}

#[test]
fn truncated_compressed_file_loses_nothing_that_was_not_written() {
    for (how, ending) in [(Compression::Gzip, "gz"), (Compression::Zstd, "zst")] {
        let path = format!("/out/x.{ending}");
        let mut fixture = Fixture::new(serde_json::json!({"path": path, "compression": how}));
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("it commits");
        // So much random data that a part of it is written while another part waits in the compressor.
        let mut prng = Prng::new(1, "bytes");
        let line: String = (0..20_000).map(|_| prng.draw().to_string()).collect();
        fixture.delivered(&[&line]);
        fixture.disk().truncate(&path, 0).expect("it is there");
        fixture.tick();
        let outcome = fixture.deliver(delivery(&["{\"a\":3}\n".to_owned()], MOMENT));
        assert!(matches!(&outcome, Outcome::Reopen(why) if why.contains("was truncated")), "{outcome:?}");
        assert_eq!(fixture.disk().read(&path).expect("it is there"), b"", "nothing goes behind the cut");
        assert!(matches!(fixture.commit(), Err(PluginError::Retry(why)) if why.contains("was truncated")));
        fixture.open(Some(state)).unwrap_or_else(|error| panic!("{error}"));
        fixture.delivered(&[&line, "{\"a\":3}"]);
        fixture.commit().expect("it commits");
        assert!(content(&fixture.disk(), &path, how) == format!("{line}\n{{\"a\":3}}\n"));
    }
}

#[test]
fn unwritable_path_says_what_to_do_and_loses_nothing() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/no/x.log"}));
    fixture.disk().create_dir_all("/out/no").expect("it is new");
    fixture.simulation.disk().deny(Path::new("/out/no"), true).expect("it is there");
    let error = fixture.refused(&["{\"a\":1}"]);
    assert!(error.contains("output out: cannot open /out/no/x.log") && error.contains("write permission"), "{error}");
    fixture.simulation.disk().deny(Path::new("/out/no"), false).expect("it is there");
    fixture.delivered(&["{\"a\":1}"]);
    fixture.simulation.disk().set_free_bytes(Some(2));
    let error = fixture.refused(&[&"x".repeat(10_000)]);
    assert!(error.contains("cannot write /out/no/x.log") && error.contains("free space"), "{error}");
    fixture.simulation.disk().set_free_bytes(None);
    fixture.delivered(&["{\"a\":2}"]);
    fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/no/x.log"), "{\"a\":1}\n{\"a\":2}\n");
}

#[test]
fn full_disk_under_compression_repeats_nothing() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.gz", "compression": "gzip"}));
    let mut prng = Prng::new(1, "bytes");
    // Long and random enough that each delivery produces compressed bytes.
    let lines: Vec<String> = (0..4).map(|_| (0..20_000).map(|_| prng.draw().to_string()).collect()).collect();
    fixture.delivered(&[&lines[0]]);
    fixture.simulation.disk().set_free_bytes(Some(0));
    fixture.delivered(&[&lines[1]]);
    assert!(fixture.refused(&[&lines[2]]).contains("cannot write /out/x.gz"));
    fixture.simulation.disk().set_free_bytes(None);
    fixture.delivered(&[&lines[2]]);
    fixture.simulation.disk().set_free_bytes(Some(0));
    assert!(fixture.commit().is_err(), "the end of the member cannot be written");
    fixture.simulation.disk().set_free_bytes(None);
    fixture.commit().expect("a write may be repeated");
    fixture.delivered(&[&lines[3]]);
    fixture.commit().expect("it commits");
    let text = content(&fixture.disk(), "/out/x.gz", Compression::Gzip);
    assert!(text == lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn failed_write_restarts_at_the_last_commit() {
    for compression in ["none", "gzip"] {
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "compression": compression}));
        let mut prng = Prng::new(1, "bytes");
        // So much random data that it does not stay in the compressor.
        let lines: Vec<String> = (0..3).map(|_| (0..20_000).map(|_| prng.draw().to_string()).collect()).collect();
        fixture.delivered(&[&lines[0]]);
        let state = fixture.commit().expect("it commits");
        fixture.delivered(&[&lines[1]]);
        // The first one only records the second.
        fixture.simulation.disk().fail_writes(2);
        let mut reopened = false;
        for _ in 0..2 {
            // The compressor may have accepted the first one; then the next one reports the failure.
            let outcome = fixture.deliver(delivery(&[format!("{}\n", lines[2])], MOMENT));
            reopened |= matches!(outcome, Outcome::Reopen(why) if why.contains("cannot write /out/x.log"));
        }
        assert!(reopened, "{compression}: what a broken disk took is trusted");
        assert!(fixture.commit().is_err(), "{compression}: the instance is done");
        fixture.open(Some(state)).unwrap_or_else(|error| panic!("{error}"));
        fixture.delivered(&[&lines[1], &lines[2]]);
        fixture.commit().expect("it commits");
        let how = if compression == "gzip" { Compression::Gzip } else { Compression::None };
        let text = content(&fixture.disk(), "/out/x.log", how);
        assert!(text == lines.iter().map(|line| format!("{line}\n")).collect::<String>(), "{compression}");
    }
}

#[test]
fn failed_sync_is_never_repeated_into_a_commit() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("it commits");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.simulation.disk().fail_syncs(1);
    assert!(fixture.commit().is_err());
    assert!(fixture.commit().is_err(), "a second try proves nothing");
    fixture.open(Some(state)).unwrap_or_else(|error| panic!("{error}"));
    fixture.delivered(&["{\"a\":2}"]);
    fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n{\"a\":2}\n");
}

#[test]
fn symbolic_links_and_directories_are_rejected() {
    let mut fixture = Fixture::new(constant());
    fixture.disk().write("/out/other", b"").expect("it is new");
    fixture.disk().symlink("/out/other", "/out/x.log").expect("it is new");
    let error = fixture.refused(&["{}"]);
    assert!(error.contains("/out/x.log: it is a symbolic link, which is not followed; use"), "{error}");
    fixture.disk().remove("/out/x.log").expect("it is there");
    fixture.disk().create_dir_all("/out/x.log").expect("it is new");
    assert!(fixture.refused(&["{}"]).contains("regular file"));
    assert_eq!(fixture.text("/out/other"), "");
}

#[test]
fn standard_output_as_a_path_leads_to_the_output_console() {
    let fixture = Fixture::new(constant());
    let disk = fixture.disk();
    disk.create_dir_all("/dev").expect("a directory");
    for (path, next) in [("/dev/stdout", "`console`"), ("/out/link", "use the path of the file")] {
        disk.symlink("/out/other", path).expect("it is new");
        let settings: Settings = serde_json::from_value(serde_json::json!({"path": path})).expect("settings");
        let mistakes = settings.check_files(fixture.simulation.disk());
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].what.contains("is a symbolic link") && mistakes[0].help.contains(next), "{mistakes:?}");
    }
}

#[test]
fn event_with_a_blocked_path_does_not_delay_others() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x.log"}));
    fixture.disk().create_dir_all("/out/dir/x.log").expect("it is new");
    fixture.disk().write("/out/file", b"").expect("it is new");
    let lines: Vec<String> = ["a", "dir", "b", "file", "a"].iter().map(|h| format!("{{\"h\":\"{h}\"}}\n")).collect();
    let Outcome::Rejected(events) = fixture.deliver(delivery(&lines, MOMENT)) else { panic!("all were taken") };
    assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
    assert!(events[0].1.contains("cannot create a file at /out/dir/x.log: is a directory"), "{events:?}");
    fixture.commit().expect("it commits");
    assert_eq!((fixture.text("/out/a/x.log"), fixture.text("/out/b/x.log")), (lines[0].repeat(2), lines[2].clone()));
}

#[test]
fn file_at_the_path_of_the_fixed_directory_rejects_no_event() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/file/{{ h }}.log"}));
    fixture.disk().write("/out/file", b"").expect("it is new");
    let error = fixture.refused(&["{\"h\":\"a\"}"]);
    assert!(error.contains("where a directory is needed"), "{error}");
    fixture.disk().remove("/out/file").expect("it is there");
    fixture.delivered(&["{\"h\":\"a\"}"]);
    assert_eq!(fixture.text("/out/file/a.log"), "{\"h\":\"a\"}\n");
}

#[test]
fn without_the_state_of_the_last_commit_nothing_is_removed() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("all is well");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.open(None).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n{\"a\":2}\n");
    fixture.delivered(&["{\"a\":2}"]);
    let later = fixture.commit().expect("all is well");
    fixture.delivered(&["{\"a\":3}"]);
    fixture.open(Some(later)).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n{\"a\":2}\n{\"a\":2}\n");
    fixture.open(Some(state)).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n");
}

#[test]
fn a_commit_names_no_more_files_than_its_state_may() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}.log"}));
    let lines: Vec<String> = (0..40).map(|h| format!("{{\"h\":\"{h:0>100}\"}}")).collect();
    let most = 1000;
    fixture.state_bytes_max = most;
    fixture.open(Some(Vec::new())).expect("nothing is in the way");
    for round in 1..4 {
        fixture.delivered(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let state = fixture.commit().expect("all is well");
        assert!(state.len() <= most, "{} bytes of state", state.len());
        fixture.open(Some(state)).expect("nothing is in the way");
        for (h, line) in lines.iter().enumerate() {
            let expected = format!("{line}\n").repeat(round);
            assert_eq!(fixture.text(&format!("/out/{h:0>100}.log")), expected);
        }
    }
    let state = fixture.commit().expect("all is well");
    // An earlier run may have stored more files than the next one may.
    fixture.state_bytes_max = 200;
    fixture.open(Some(state)).expect("nothing is in the way");
    assert!(fixture.commit().expect("all is well").len() <= 200);
}

#[test]
fn unknown_state_is_rejected() {
    let mut fixture = Fixture::new(constant());
    assert!(matches!(fixture.open(Some(vec![99, 0])), Err(PluginError::Fatal(error)) if error.contains("version")));
}

#[test]
fn mistake_in_the_settings_names_its_key() {
    let key =
        |json: serde_json::Value| serde_json::from_value::<Settings>(json).expect("settings").check().remove(0).key;
    assert_eq!(key(serde_json::json!({"path": "x"})), "path");
    assert_eq!(key(serde_json::json!({"path": "/a/b", "base": "/c"})), "base");
    assert_eq!(key(serde_json::json!({"path": "/a", "max_open_files": 0})), "max_open_files");
    assert_eq!(key(serde_json::json!({"path": "/a", "max_open_files": 1025})), "max_open_files");
    assert_eq!(key(serde_json::json!({"path": "/a", "max_paths": 0})), "max_paths");
    assert_eq!(key(serde_json::json!({"path": "/a", "max_paths": 1_000_001})), "max_paths");
    assert_eq!(key(serde_json::json!({"path": "/a", "rotate": {}})), "rotate");
    assert_eq!(key(serde_json::json!({"path": "/a/{{ host }}", "rotate": {"age": "1d"}})), "path");
    assert_eq!(key(serde_json::json!({"path": "/a", "rotate": {"bytes": 0}})), "rotate.bytes");
    assert_eq!(key(serde_json::json!({"path": "/a", "rotate": {"age": "1d", "keep": 0}})), "rotate.keep");
    assert!(serde_json::from_value::<Settings>(serde_json::json!({"path": "/a", "nope": 1})).is_err());
}
