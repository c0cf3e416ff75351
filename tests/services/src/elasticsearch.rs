//! Elasticsearch: a single node without security, the server that the output is named after.
//!
//! It needs its configuration in its home directory, so each node has its own home that shares the large files. It does not
//! run as root, so root starts it as nobody.

use crate::ports::free_port;
use crate::process::Process;
use crate::search::{self, LOG4J, Search};
use crate::user;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The name in `install.sh`.
pub const NAME: &str = "elasticsearch";

/// A node and its directory. Both are removed when it is dropped.
#[derive(Debug)]
pub struct Elasticsearch {
    port: u16,
    // Ends before its directory is removed.
    process: Process,
    _folder: TempDir,
}

impl Elasticsearch {
    /// Starts a node and waits until it is ready.
    pub fn start() -> Elasticsearch {
        let places = crate::install(NAME);
        let place = |name: &str| places.get(name).map(PathBuf::from).unwrap_or_else(|| panic!("no {name}: {places:?}"));
        let (installed, java) = (place("ELASTICSEARCH_HOME"), place("ELASTICSEARCH_JAVA"));
        let folder = tempfile::Builder::new().prefix("tailwater-elasticsearch-").tempdir().expect("a temporary folder");
        let home = folder.path().join("home");
        user::copy_tree(&installed, &home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
        let port = free_port();
        configure(folder.path(), &home, port);
        let mut command = user::command(&home.join("bin/elasticsearch"));
        // Compiled quickly and not thoroughly: a test is too short to gain from more. It does not start if its temporary
        // directory is above its home.
        let temporary = folder.path().join("tmp");
        let options = "-Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir=";
        command.env("ES_JAVA_HOME", java).env("ES_JAVA_OPTS", format!("{options}{}", temporary.display()));
        command.env("ES_TMPDIR", temporary).current_dir(folder.path());
        let mut process = Process::start(NAME, &mut command, &folder.path().join("console.log"), folder.path());
        process.wait_until(|| search::is_ready(port));
        Elasticsearch { port, process, _folder: folder }
    }

    /// The node that all tests of this process share, started at the first call.
    pub fn shared() -> &'static Elasticsearch {
        static SHARED: OnceLock<Elasticsearch> = OnceLock::new();
        SHARED.get_or_init(Elasticsearch::start)
    }

    /// The URL for a configuration.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client of this node.
    pub fn search(&self) -> Search {
        Search::new(self.port)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

fn configure(folder: &Path, home: &Path, port: u16) {
    let config = home.join("config");
    // The files there belong to the installation: they are not changed, but left out.
    fs::remove_dir_all(&config).expect("a configuration to be replaced");
    let parts = [config.clone(), folder.join("data"), folder.join("logs"), folder.join("tmp")];
    for part in &parts {
        fs::create_dir(part).expect("a folder");
    }
    let settings = format!(
        "discovery.type: single-node\nnetwork.host: 127.0.0.1\nhttp.port: {port}\ntransport.port: {}\npath.data: {}\n\
         path.logs: {}\ncluster.routing.allocation.disk.threshold_enabled: false\nxpack.security.enabled: false\n",
        free_port(),
        folder.join("data").display(),
        folder.join("logs").display(),
    );
    let files = [("elasticsearch.yml", settings.as_str()), ("log4j2.properties", LOG4J), ("jvm.options", "")];
    for (name, text) in files {
        fs::write(config.join(name), text).expect("a configuration file");
        user::give(&config.join(name));
    }
    parts.iter().map(PathBuf::as_path).chain([folder, home]).for_each(user::give);
}
