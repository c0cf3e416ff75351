//! Elasticsearch: a single node, without security, as what the output is named after.
//!
//! It wants its configuration below its home, so each node has a home of its own that shares the large files. It refuses to run as
//! root, so root starts it as nobody.

use crate::process::{Process, free_port};
use crate::search::{self, LOG4J, Search};
use crate::user;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// What `install.sh` calls it.
pub const NAME: &str = "elasticsearch";

/// A node and its folder. Both go when it is dropped.
#[derive(Debug)]
pub struct Elasticsearch {
    port: u16,
    // Ends before its folder goes.
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
        // Compiled quickly and not well: a test does not live long enough to gain by more. It refuses to run where what is
        // temporary lies above its home.
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

    /// As a configuration names it.
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
    // The files there are those of the installation: they are not changed but left behind.
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
