//! Runs a plan in this process until it has drained: the one place where everything is wired.
//!
//! Guarantees: whatever stops the engine, acknowledged events are in the write-ahead log. The first SIGTERM or SIGINT drains; a
//! second one or the drain timeout stops at once and leaves the rest to the next start, also if a shard does not take part in
//! the stop. Does not read configuration and prints nothing.

pub mod advice;
pub mod data_dir;
mod ending;
pub mod exposed;
mod lock;
pub mod machine;
pub mod replay;
mod report;
mod started;
pub mod trusted;
pub mod users;

use crate::config::admin::AdminPlan;
use crate::config::component::{Facts, Table};
use crate::config::plan::GivenUp;
use crate::config::raw::Shards;
use crate::config::room::Room;
use crate::config::{self, types};
use crate::outputs::{OutputConfig, gone};
use crate::process;
use crate::telemetry::admin::Admin;
use crate::telemetry::metrics::{ComponentLabels, Exporter, Totals};
use crate::transforms::enrich::watched::{Keeper, Kept};
use lock::wait_for_lock;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use started::Started;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tailwater_shards::delivery::{BatchOptions, DeliveryOptions};
use tailwater_shards::engine::{self, Engine, InputPlan, OutputPlan, PipelinePlan, StartError};
use tailwater_shards::env::Timestamp;
use tailwater_shards::glommio_env::{
    Drivers, GlommioEnv, LaunchError, RealDisk, allowed_cpus, install_map_fault_handler, io_uring_allowed, launch,
    raise_open_files, resources,
};
use tailwater_shards::lane::{LaneOptions, WhenFull};
use tailwater_shards::retry::RetryOptions;
use tailwater_shards::service::Service;
use tailwater_shards::shard::ShardSeed;
use tailwater_shards::stop::{Phase, Stop};
use tailwater_shards::wal::manifest::DataDirectory;
use tailwater_shards::wal::{WalError, WalType};

/// A callback that receives an address.
pub type AdminBound = Arc<dyn Fn(SocketAddr) + Send + Sync>;

/// What an engine needs besides its plan.
pub struct RunOptions {
    /// Returns how many lines of the application log were dropped.
    pub log_dropped: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Called with the address of the admin endpoint once it listens.
    pub admin_bound: AdminBound,
    /// Stops the engine, for callers that do it themselves.
    pub stop: Stop,
}

/// Why an engine could not start or failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// io_uring is not available.
    #[error("{0}")]
    Forbidden(String),
    /// The data directory cannot be used.
    #[error("{0}")]
    DataDirectory(#[from] WalError),
    /// The configuration or the command line asks for something impossible.
    #[error("{0}")]
    Configuration(String),
    /// It was stopped before everything was delivered; the rest waits in the write-ahead log.
    #[error("stopped before everything was delivered; the rest waits in the write-ahead log for the next start")]
    Unfinished,
    /// Someone has to fix something.
    #[error("{0}")]
    Failed(String),
}

/// A running engine.
pub struct Running {
    drivers: Drivers,
    stop: Stop,
    exporter: Arc<OnceLock<Exporter>>,
    /// Keeps the data directory locked while the WAL is in memory.
    directory: Option<DataDirectory<RealDisk>>,
}

/// Runs a plan until it has drained.
pub fn run(plan: config::Plan, options: RunOptions) -> Result<Totals, RunError> {
    let drain_timeout = plan.drain_timeout;
    let (stop, heeded) = (options.stop.clone(), options.stop.clone());
    survive_signals()?;
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| RunError::Failed(format!("signals cannot be caught: {error}")))?;
    let closer = signals.handle();
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let failed = |error| RunError::Failed(format!("a thread for the shutdown cannot be started: {error}"));
    thread("signals").spawn(move || heed(signals, &heeded)).map_err(failed)?;
    let (ended, ending) = mpsc::channel::<()>();
    let bounded = stop.clone();
    thread("drain timeout").spawn(move || bound_the_drain(&bounded, &ending, drain_timeout)).map_err(failed)?;
    let totals = start(plan, options).and_then(Running::wait);
    // From here on nobody waits for a drain.
    drop(ended);
    stop.enter(Phase::Draining);
    closer.close();
    match totals {
        Ok(_) if stop.phase() == Phase::Forced => Err(RunError::Unfinished),
        totals => totals,
    }
}

/// Makes signals harmless that would end the process without a request to stop. A write that exceeds the file size limit
/// (SIGXFSZ) then fails as on a full disk, which is retried. SIGHUP, SIGUSR1 and SIGUSR2 make other programs reload their
/// configuration or reopen files.
pub fn survive_signals() -> Result<(), RunError> {
    [SIGXFSZ, SIGHUP, SIGUSR1, SIGUSR2].into_iter().try_for_each(|signal| {
        let caught = signal_hook::flag::register(signal, Arc::default());
        caught.map(drop).map_err(|error| RunError::Failed(format!("signal {signal} cannot be caught: {error}")))
    })
}

/// Starts a plan and returns at once.
pub fn start(plan: config::Plan, options: RunOptions) -> Result<Running, RunError> {
    io_uring_allowed().map_err(|refusal| RunError::Forbidden(format!("{}\n{}", refusal.detail(), refusal.fix())))?;
    install_map_fault_handler()
        .map_err(|error| RunError::Failed(format!("cannot install the handler for faults in mapped files: {error}")))?;
    let cpus = place(&plan.shards, plan.shard_count)?;
    raise_open_files();
    let disk_bytes = machine::disk_bytes(&RealDisk::new(), &plan.data_dir);
    for short in machine::shortages(&plan.sums, &resources(), &plan.data_dir, disk_bytes) {
        tracing::warn!("this machine may not have enough resources: {short}");
    }
    let kept = load_tables(&plan)?;
    let exporter = Arc::new(OnceLock::new());
    let stop = options.stop.clone();
    let RunOptions { log_dropped, admin_bound, .. } = options;
    let started = Arc::new(Started::when(if plan.admin.is_some() { 2 } else { 1 }, cpus.len()));
    let listens = started.clone();
    let admin_bound: AdminBound = Arc::new(move |address| {
        admin_bound(address);
        listens.and_one_more();
    });
    let pipelines = plan.pipelines.iter().map(|pipeline| pipeline.name.as_str().into()).collect();
    let unused: Vec<String> =
        plan.outputs.iter().filter(|output| !output.used).map(|output| output.name.clone()).collect();
    let given_up = plan.given_up.clone();
    let (engine_plan, inputs, outputs) = engine_plan(plan, admin_bound, &exporter, kept);
    if let Some(data_dir::Objection { what, help }) = data_dir::prepare(&engine_plan.data_dir)? {
        tracing::warn!("{what}: {help}");
    }
    wait_for_lock(&RealDisk::new(), &engine_plan.data_dir, &stop);
    let (disk, directory) = log_disk(&engine_plan)?;
    let engine = engine::prepare::<GlommioEnv>(&disk, engine_plan, now(), stop.clone())
        .map_err(|error| refused(error, &unused, &given_up))?;
    report::report(&engine);
    report::not_left(&engine, &given_up);
    let Engine { seeds, meters, removed, .. } = engine;
    let seeds: Arc<Mutex<Vec<Option<ShardSeed<GlommioEnv>>>>> =
        Arc::new(Mutex::new(seeds.into_iter().map(Some).collect()));
    let drivers = launch(&cpus, move |env: GlommioEnv| {
        use tailwater_shards::env::Env;
        let seed = seeds.lock().unwrap_or_else(PoisonError::into_inner)[env.shard().index()].take();
        async move {
            if let Some(seed) = seed {
                seed.run(env).await;
            }
        }
    })
    .map_err(|error| match error {
        LaunchError::Forbidden(_) => RunError::Forbidden(error.to_string()),
        LaunchError::Start { .. } => RunError::Failed(error.to_string()),
    })?;
    let pulses = drivers.pulses();
    let made = exporter.set(Exporter {
        meters,
        inputs,
        outputs,
        pipelines,
        removed: removed.into_iter().map(|left| (left.output, left.events)).collect(),
        pulses: Box::new(pulses),
        log_dropped,
    });
    debug_assert!(made.is_ok(), "the exporter is created once");
    started.and_one_more();
    Ok(Running { drivers, stop, exporter, directory })
}

impl Running {
    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.exporter.get().map(Exporter::totals).unwrap_or_default()
    }

    /// How many events the output called `id` has delivered so far.
    pub fn delivered(&self, id: &str) -> u64 {
        self.exporter.get().map_or(0, |exporter| exporter.delivered(id))
    }

    /// Waits until the engine has ended, or until it is clear that a shard does not.
    pub fn wait(self) -> Result<Totals, RunError> {
        let Running { drivers, stop, exporter, directory } = self;
        let ended = ending::outlast(drivers, directory, &stop, ending::FORCED_END)?;
        match stop.failure() {
            Some(failure) => Err(RunError::Failed(failure)),
            None if !ended => Err(RunError::Unfinished),
            None => {
                let totals = exporter.get().map(Exporter::totals).unwrap_or_default();
                let Totals { received, delivered, dead_lettered, discarded, .. } = totals;
                tracing::info!(received, delivered, dead_lettered, discarded, "ended");
                Ok(totals)
            }
        }
    }
}

/// Why the engine could not be created, as a message. `unused` are outputs that no pipeline names.
fn refused(error: StartError, unused: &[String], given_up: &[GivenUp]) -> RunError {
    match error {
        StartError::Log(error) => RunError::DataDirectory(error),
        StartError::Waiting(waiting, damage) => {
            report::damage(&damage);
            RunError::Configuration(report::waiting(&waiting, unused, given_up))
        }
    }
}

/// A signal that follows the first one this soon is the same request: `timeout` signals its child and then its whole group.
const SAME_WISH: Duration = Duration::from_millis(100);

/// Enters the phases that signals ask for. Returns only when the process ends.
fn heed(mut signals: Signals, stop: &Stop) {
    let mut first = None;
    for signal in signals.forever() {
        if signal == SIGHUP {
            tracing::info!("SIGHUP: the configuration is read only at the start; restart to apply changes");
            continue;
        }
        match first {
            None => {
                first = Some(Instant::now());
                tracing::info!(signal, "draining; a second signal stops at once");
                stop.enter(Phase::Draining);
            }
            Some(first) if first.elapsed() >= SAME_WISH => {
                tracing::warn!(signal, "stopping at once; the rest waits in the write-ahead log");
                stop.enter(Phase::Forced);
            }
            Some(_) => {}
        }
    }
}

/// Stops a drain that takes too long, whether a signal or the end of all inputs started it. Returns when `ending` is closed.
fn bound_the_drain(stop: &Stop, ending: &mpsc::Receiver<()>, drain_timeout: Duration) {
    futures_lite::future::block_on(stop.reached(Phase::Draining));
    if let Err(mpsc::RecvTimeoutError::Timeout) = ending.recv_timeout(drain_timeout) {
        tracing::warn!("not everything was delivered within drain_timeout; the rest waits in the write-ahead log");
        stop.enter(Phase::Forced);
    }
}

/// Where the WAL's files are. A WAL in memory does not survive a restart; the data directory then contains only what outputs keep
/// outside the WAL.
fn log_disk(plan: &engine::Plan<GlommioEnv>) -> Result<(RealDisk, Option<DataDirectory<RealDisk>>), RunError> {
    match plan.wal.kind {
        WalType::Disk => Ok((RealDisk::new(), None)),
        WalType::Memory => {
            let directory = DataDirectory::open(RealDisk::new(), &plan.data_dir)?;
            // It belongs to the cursors of a WAL that no longer exists.
            let outputs = plan.data_dir.join("outputs");
            match std::fs::remove_dir_all(&outputs) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(RunError::DataDirectory(WalError::Io { path: outputs, source }))
                }
                _ => Ok((RealDisk::memory(), Some(directory))),
            }
        }
    }
}

/// The core of each shard; `None` for a shard that is not pinned.
fn place(shards: &Shards, count: usize) -> Result<Vec<Option<usize>>, RunError> {
    let allowed = allowed_cpus();
    match shards {
        Shards::Cpus(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(RunError::Failed(format!(
                "shards: CPU {cpu} is not among those that this process may use ({allowed:?}); name other CPUs, or use auto"
            ))),
            None => Ok(cpus.iter().copied().map(Some).collect()),
        },
        // If there are more shards than cores, as configured, they share the cores and are not pinned.
        Shards::Auto | Shards::Count(_) => {
            let pinned = count <= allowed.len();
            Ok((0..count).map(|shard| if pinned { Some(allowed[shard]) } else { None }).collect())
        }
    }
}

type EngineParts = (engine::Plan<GlommioEnv>, Vec<ComponentLabels>, Vec<ComponentLabels>);

/// Reads the files that transforms look values up in: without them no event can be processed.
pub fn load_tables(plan: &config::Plan) -> Result<Vec<Arc<dyn Kept>>, RunError> {
    let mut all = Vec::new();
    for pipeline in &plan.pipelines {
        for kept in pipeline.chain.kept() {
            let name = &pipeline.name;
            kept.load(&RealDisk::new())
                .map_err(|error| RunError::Configuration(format!("pipelines.{name}: enrich: {error}")))?;
            all.push(kept);
        }
    }
    Ok(all)
}

fn services(
    admin: Option<AdminPlan>,
    bound: AdminBound,
    exporter: &Arc<OnceLock<Exporter>>,
    kept: Vec<Arc<dyn Kept>>,
) -> Vec<Arc<dyn Service<GlommioEnv>>> {
    let mut services: Vec<Arc<dyn Service<GlommioEnv>>> = Vec::new();
    if let Some(AdminPlan { listen, hosts }) = admin {
        services.push(Arc::new(Admin { listen, hosts, exporter: exporter.clone(), bound }));
    }
    if !kept.is_empty() {
        services.push(Arc::new(Keeper { kept }));
    }
    services
}

fn engine_plan(
    plan: config::Plan,
    admin_bound: AdminBound,
    exporter: &Arc<OnceLock<Exporter>>,
    kept: Vec<Arc<dyn Kept>>,
) -> EngineParts {
    let services = services(plan.admin.clone(), admin_bound, exporter, kept);
    let room = Arc::new(Room::of(plan.positions_bytes()));
    let facts = Facts { timezone: plan.timezone.clone(), room, ..Facts::of(host_name()) };
    let used_inputs: Vec<usize> = (0..plan.inputs.len()).filter(|&index| plan.inputs[index].used).collect();
    let used_outputs: Vec<usize> = (0..plan.outputs.len()).filter(|&index| plan.outputs[index].used).collect();
    let label = |id: &str, kind| ComponentLabels { id: id.into(), kind };
    let inputs = used_inputs.iter().map(|&index| {
        let input = &plan.inputs[index];
        let feeds = |(number, pipeline): (usize, &config::plan::PipelinePlan)| {
            pipeline.inputs.contains(&index).then_some(number)
        };
        let settings = &input.settings;
        let fed: Vec<usize> = plan.pipelines.iter().enumerate().filter_map(feeds).collect();
        let chains = fed.iter().map(|&number| plan.pipelines[number].chain.clone()).collect();
        InputPlan {
            name: input.name.as_str().into(),
            spec: settings.spec::<GlommioEnv>(&facts.feeding(config::meetings::downstream_names(&plan, index))),
            processor: process::spec(&settings.events::<GlommioEnv>(), chains, &facts),
            shard_by: settings.shard_by::<GlommioEnv>(),
            lane: lane_options(settings.ring::<GlommioEnv>()),
            pipelines: fed,
            was: input.was.as_deref().map(Arc::from),
        }
    });
    let outputs = used_outputs.iter().map(|&index| {
        let output = &plan.outputs[index];
        let settings = &output.settings;
        OutputPlan {
            name: output.name.as_str().into(),
            spec: settings.spec::<GlommioEnv>(&facts, &output.name),
            options: delivery_options(settings),
            was: output.was.as_deref().map(Arc::from),
        }
    });
    let letters =
        || plan.given_up.iter().filter(|given_up| given_up.dead_letters).map(|given_up| given_up.name.as_str());
    let outputs = outputs.chain(letters().map(gone::output));
    let place_of = |index: &usize| used_outputs.iter().position(|used| used == index);
    let pipelines = plan.pipelines.iter().map(|pipeline| PipelinePlan {
        name: pipeline.name.as_str().into(),
        outputs: pipeline.outputs.iter().filter_map(place_of).collect(),
    });
    let engine_plan = engine::Plan {
        data_dir: plan.data_dir.clone(),
        shards: plan.shard_count,
        wal: plan.wal.clone(),
        dead_letters: plan.dead_letters,
        inputs: inputs.collect(),
        pipelines: pipelines.collect(),
        outputs: outputs.collect(),
        services,
        given_up: plan.given_up.iter().map(|given_up| given_up.name.as_str().into()).collect(),
    };
    let input_labels = used_inputs.iter().map(|&i| label(&plan.inputs[i].name, plan.inputs[i].settings.type_name()));
    let output_labels =
        used_outputs.iter().map(|&i| label(&plan.outputs[i].name, plan.outputs[i].settings.type_name()));
    let output_labels = output_labels.chain(letters().map(|name| label(name, gone::NAME)));
    (engine_plan, input_labels.collect(), output_labels.collect())
}

fn lane_options(ring: &types::Ring) -> LaneOptions {
    LaneOptions {
        bytes: usize::try_from(ring.bytes.0).unwrap_or(usize::MAX),
        when_full: match ring.when_full {
            types::RingFull::Block => WhenFull::Block,
            types::RingFull::DropNewest => WhenFull::DropNewest,
            types::RingFull::DropOldest => WhenFull::DropOldest,
            types::RingFull::Sample => WhenFull::Sample,
        },
    }
}

fn delivery_options(settings: &OutputConfig) -> DeliveryOptions {
    let (batching, retry) = (settings.batching::<GlommioEnv>(), settings.retry::<GlommioEnv>());
    DeliveryOptions {
        batch: BatchOptions {
            bytes_max: batching.max_bytes.0,
            events_max: batching.max_events,
            age_max: batching.max_age.0,
        },
        retry: RetryOptions {
            initial: retry.initial.0,
            max: retry.max.0,
            after_max: retry.max_retry_after.0,
            age_max: retry.max_age.map(|types::Period(age)| age),
        },
        when_full: settings.when_full::<GlommioEnv>(),
        letters_full: settings.letters_full::<GlommioEnv>(),
    }
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64))
}

/// The name of this host.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}
