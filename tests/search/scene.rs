//! A scene: a case with outputs that use HTTP, and its checks of the server and of the product's counters.

use crate::case::Case;
use crate::lines::Arrived;
use crate::metrics;
use crate::product::Product;
use crate::wait::wait_for;
use std::path::PathBuf;
use tailwater_services::search::Search;

/// A case with its configuration.
pub struct Scene {
    pub case: Case,
    pub config: PathBuf,
    outputs: Vec<String>,
}

/// The settings of an output to this index of the server at `url`; `more` are further settings, as `, key: value`.
pub fn to_index(url: &str, index: &str, more: &str) -> String {
    // Short waits, so that a scene sees a recovered server soon.
    let retry = "retry: {initial: 20ms, max: 200ms}";
    format!("{{type: elasticsearch, endpoints: [\"{url}\"], index: \"{index}\", {retry}{more}}}")
}

/// The settings of an input for the file that [`Scene::log`] returns; `more` are further settings, as `, key: value`.
pub fn from_file(case: &Case, more: &str) -> String {
    format!("{{type: file, include: [\"{}\"]{more}}}", case.path("logs/app.log").display())
}

impl Scene {
    /// A case with this input and these outputs (name and settings).
    pub fn new(case: Case, input: &str, outputs: &[(&str, String)]) -> Scene {
        let names: Vec<String> = outputs.iter().map(|(name, _)| (*name).to_owned()).collect();
        let settings: String = outputs.iter().map(|(name, settings)| format!("  {name}: {settings}\n")).collect();
        let text = format!(
            "data_dir: \"{}\"\nshards: {}\nadmin: {{listen: \"127.0.0.1:{}\"}}\n{}inputs:\n  app: {input}\npipelines:\n  \
             main: {{inputs: [app], outputs: [{}]}}\noutputs:\n{settings}",
            case.path("data").display(),
            case.shards,
            case.admin_port,
            case.extra,
            names.join(", "),
        );
        let config = case.write("tailwater.yaml", text.as_bytes());
        Scene { case, config, outputs: names }
    }

    /// The file that is followed.
    pub fn log(&self) -> PathBuf {
        self.case.path("logs/app.log")
    }

    /// Starts the product. Its log may contain these warnings, and the note that there were more of them.
    pub fn start_expecting(&self, warnings: &[&'static str]) -> Product {
        let mut product = Product::start(&self.case, &self.config);
        warnings
            .iter()
            .copied()
            .chain((!warnings.is_empty()).then_some("similar lines"))
            .for_each(|part| product.expect(part));
        product
    }

    pub fn start(&self) -> Product {
        self.start_expecting(&[])
    }

    /// A counter of an output in the current run.
    pub fn counter(&self, output: &str, name: &str) -> Result<u64, String> {
        metrics::sum(self.case.admin_port, name, &[&format!("component_id=\"{output}\"")])
    }

    /// Events of an output that left the WAL in the current run.
    pub fn sent(&self, output: &str) -> Result<u64, String> {
        self.counter(output, "tailwater_component_sent_events_total")
    }

    /// Events of an output that became dead letters for this reason.
    pub fn dead_letters(&self, output: &str, reason: &str) -> Result<u64, String> {
        let labels = [&*format!("component_id=\"{output}\""), &format!("reason=\"{reason}\"")];
        metrics::sum(self.case.admin_port, "tailwater_component_dead_lettered_events_total", &labels)
    }

    pub fn retries(&self, output: &str) -> Result<u64, String> {
        self.counter(output, "tailwater_output_retries_total")
    }

    /// Waits until an index has this many documents, and returns them all.
    pub fn wait_for_documents(&self, product: &mut Product, search: &Search, index: &str, documents: u64) {
        wait_for(&format!("{documents} documents in {index}"), || match search.count(index) {
            count if count >= documents => Ok(()),
            _ if !product.is_running() => panic!("the product ended: {}", product.state()),
            count => Err(format!("{count}; {}", product.state())),
        });
    }

    /// Waits until the WAL holds nothing for any output, and checks for each output that all events of this run, or waiting
    /// at its start, were sent, became dead letters or were discarded.
    pub fn assert_balance(&self, product: &mut Product) {
        let sum = |name: &str| metrics::sum(self.case.admin_port, name, &[]);
        wait_for("an empty log", || {
            let waiting = [sum("tailwater_file_unread_bytes")?, sum("tailwater_ring_events")?];
            let waiting = waiting.iter().sum::<u64>() + sum("tailwater_output_buffered_events")?;
            if waiting == 0 { Ok(()) } else { Err(format!("{waiting} left; {}", product.state())) }
        });
        let get = |value: Result<u64, String>| value.expect("a scrape");
        let received = get(metrics::received_events(self.case.admin_port));
        for output in &self.outputs {
            let recovered = get(self.counter(output, "tailwater_output_recovered_events_total"));
            let ways = ["sent", "discarded", "dead_lettered"];
            let left = ways.map(|way| get(self.counter(output, &format!("tailwater_component_{way}_events_total"))));
            let left: u64 = left.iter().sum();
            assert_eq!(received + recovered, left, "{output}: {received} received, {recovered} recovered, {left} left");
        }
    }
}

/// The numbered lines that are in an index.
pub fn documents(search: &Search, index: &str, lines: u64) -> Arrived {
    Arrived::of(lines, search.documents(index).into_iter().map(|document| document.source))
}
