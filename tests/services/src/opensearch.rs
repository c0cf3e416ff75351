//! OpenSearch: a single node without security, small and quick to start.
//!
//! [`OpenSearch::kill`] and [`OpenSearch::start_again`] kill and restart it with the same data and port. Settings that
//! provoke rejections are passed at the start. It does not run as root, so root starts it as nobody.

use crate::ports::free_port;
use crate::process::Process;
use crate::search::{self, LOG4J, Search};
use crate::user;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The name in `install.sh`.
pub const NAME: &str = "opensearch";

/// A node and its directory. Both are removed when it is dropped.
#[derive(Debug)]
pub struct OpenSearch {
    folder: TempDir,
    home: PathBuf,
    java: PathBuf,
    port: u16,
    transport_port: u16,
    settings: Vec<String>,
    process: Option<Process>,
}

impl OpenSearch {
    /// Starts a separate node. Takes some seconds: if a test needs only its own index, use [`OpenSearch::shared`].
    pub fn start() -> OpenSearch {
        OpenSearch::start_with(&[])
    }

    /// Starts a node with settings in addition to the fixed ones, each `key=value`. `indexing_pressure.memory.limit=2mb`
    /// makes it reject whole requests with 429, `thread_pool.write.size=1` and `thread_pool.write.queue_size=1` single items,
    /// and `http.max_content_length=4mb` large requests with 413.
    pub fn start_with(settings: &[&str]) -> OpenSearch {
        let places = crate::install(NAME);
        let place = |name: &str| places.get(name).map(PathBuf::from).unwrap_or_else(|| panic!("no {name}: {places:?}"));
        let (home, java) = (place("OPENSEARCH_HOME"), place("OPENSEARCH_JAVA"));
        let folder = tempfile::Builder::new().prefix("tailwater-opensearch-").tempdir().expect("a temporary folder");
        let mut node = OpenSearch {
            home: user::reachable(home, folder.path()),
            folder,
            java,
            port: free_port(),
            transport_port: free_port(),
            settings: Vec::new(),
            process: None,
        };
        node.configure();
        node.start_again_with(settings);
        node
    }

    /// The node that all tests of this process share, started at the first call. Names of indices must differ between tests,
    /// and tests must not kill it.
    pub fn shared() -> &'static OpenSearch {
        static SHARED: OnceLock<OpenSearch> = OnceLock::new();
        SHARED.get_or_init(OpenSearch::start)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL for a configuration.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client of this node. It stays valid over restarts, because the port stays the same.
    pub fn search(&self) -> Search {
        Search::new(self.port)
    }

    /// The process while it runs, for tests that stop and continue it.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map(Process::log_tail).unwrap_or_default()
    }

    /// Ends it with SIGKILL; the data stays.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Ends it in an orderly way; the data stays.
    pub fn stop(&mut self) {
        self.process.take().expect("it runs").stop();
    }

    /// Starts it again with its data, port and settings, and waits until it is ready.
    pub fn start_again(&mut self) {
        let settings = self.settings.clone();
        self.start_again_with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Like [`OpenSearch::start_again`], with other settings.
    pub fn start_again_with(&mut self, settings: &[&str]) {
        assert!(self.process.is_none(), "it runs already");
        self.settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let folder = self.folder.path();
        let mut process = Process::start(NAME, &mut self.command(), &folder.join("console.log"), folder);
        process.wait_until(|| search::is_ready(self.port));
        self.process = Some(process);
    }

    fn configure(&self) {
        let folder = self.folder.path();
        let parts = ["data", "logs", "tmp", "config"].map(|part| folder.join(part));
        for part in &parts {
            fs::create_dir(part).expect("a folder");
        }
        let path = |part: &str| folder.join(part).display().to_string();
        let settings = format!(
            "discovery.type: single-node\nnetwork.host: 127.0.0.1\nhttp.port: {}\ntransport.port: {}\npath.data: {}\n\
             path.logs: {}\ncluster.routing.allocation.disk.threshold_enabled: false\n",
            self.port,
            self.transport_port,
            path("data"),
            path("logs")
        );
        for (name, text) in [("opensearch.yml", settings.as_str()), ("log4j2.properties", LOG4J), ("jvm.options", "")] {
            fs::write(folder.join("config").join(name), text).expect("a configuration file");
        }
        for part in &parts {
            user::give(part);
        }
        user::give(folder);
    }

    fn command(&self) -> Command {
        let mut command = user::command(&self.java);
        let (folder, home) = (self.folder.path().display(), self.home.display());
        // Compiled quickly and not thoroughly: a test is too short to gain from more.
        command.args(["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(format!("-javaagent:{home}/agent/opensearch-agent.jar"));
        command.arg("--add-modules=jdk.incubator.vector").arg(format!("-Djava.io.tmpdir={folder}/tmp"));
        command.arg(format!("-Dopensearch.path.home={home}")).arg(format!("-Dopensearch.path.conf={folder}/config"));
        command.args(["-Dopensearch.distribution.type=zip", "-Dopensearch.bundled_jdk=false"]);
        command.arg("-cp").arg(format!("{home}/lib/*")).arg("org.opensearch.bootstrap.OpenSearch");
        command.args(self.settings.iter().map(|setting| format!("-E{setting}")));
        command.current_dir(self.folder.path());
        command
    }
}
