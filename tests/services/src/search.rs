//! Queries of tests to a server with the Elasticsearch protocol: indices, documents, blocks.
//!
//! Everything here fails the test if the server rejects it. A test that wants a rejection sends its own request with
//! [`Search::http`].

use crate::http::{Client, Response};
use crate::process::pause;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Maximum number of documents in a response with all of them.
const PAGE: usize = 5_000;

/// How long the shards of a new index may take on a busy machine.
const SHARDS_WITHIN: Duration = Duration::from_secs(30);

/// Makes such a server print its log, and store none.
pub(crate) const LOG4J: &str = "status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
";

/// Whether the server on this port responds and has its indices; if not, its response.
pub(crate) fn is_ready(port: u16) -> Result<(), String> {
    let response = Client::new(port).get("/_cluster/health?wait_for_status=yellow&timeout=1s")?;
    if response.status == 200 { Ok(()) } else { Err(format!("{}: {}", response.status, response.text())) }
}

/// One server.
#[derive(Debug, Clone)]
pub struct Search {
    pub http: Client,
}

/// A document as the server stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub index: String,
    pub id: String,
    pub source: Value,
}

impl Search {
    pub fn new(port: u16) -> Search {
        Search { http: Client::new(port) }
    }

    /// Creates an index with these settings and mappings: `{"mappings": {...}}`.
    pub fn create_index(&self, index: &str, definition: &Value) {
        self.ask("PUT", &format!("/{index}"), Some(definition));
    }

    /// An index template: `{"index_patterns": [...], "data_stream": {}, "template": {...}}`.
    pub fn put_template(&self, name: &str, definition: &Value) {
        self.ask("PUT", &format!("/_index_template/{name}"), Some(definition));
    }

    pub fn put_mapping(&self, index: &str, mapping: &Value) {
        self.ask("PUT", &format!("/{index}/_mapping"), Some(mapping));
    }

    pub fn put_settings(&self, index: &str, settings: &Value) {
        self.ask("PUT", &format!("/{index}/_settings"), Some(settings));
    }

    /// Sets or clears a block of an index: `write` makes items 403, `read_only_allow_delete` makes them 429.
    pub fn block(&self, index: &str, block: &str, on: bool) {
        let value = if on { json!(true) } else { Value::Null };
        self.put_settings(index, &json!({ format!("index.blocks.{block}"): value }));
    }

    pub fn delete_index(&self, index: &str) {
        self.ask("DELETE", &format!("/{index}"), None);
    }

    /// Makes what was written visible to searches.
    pub fn refresh(&self, index: &str) {
        self.ask("POST", &format!("/{index}/_refresh"), None);
    }

    /// The number of documents in an index, a data stream or a pattern; 0 if there is no such index.
    pub fn count(&self, index: &str) -> u64 {
        if self.try_count(index).is_ok_and(|count| count.is_none()) {
            return 0;
        }
        self.refresh(index);
        let begun = Instant::now();
        loop {
            match self.try_count(index) {
                Ok(count) => return count.unwrap_or(0),
                // The shards of a new index are not available at once.
                Err(error) => assert!(begun.elapsed() < SHARDS_WITHIN, "{error}"),
            }
            pause(Duration::from_millis(100));
        }
    }

    /// Like [`Search::count`], for a server that may be down or not ready; without a refresh, and none if the index does not
    /// exist.
    pub fn try_count(&self, index: &str) -> Result<Option<u64>, String> {
        let response = self.http.get(&format!("/{index}/_count"))?;
        if response.status == 404 {
            return Ok(None);
        }
        let count = response.success()?["count"].as_u64();
        count.map(Some).ok_or_else(|| format!("no count: {}", response.text()))
    }

    /// All documents in the order of their `_id`.
    pub fn documents(&self, index: &str) -> Vec<Document> {
        self.refresh(index);
        let query = json!({"size": PAGE, "query": {"match_all": {}}, "sort": ["_doc"]});
        let mut answer = self.ask("POST", &format!("/{index}/_search?scroll=1m"), Some(&query));
        let mut documents = Vec::new();
        loop {
            let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
            if hits.is_empty() {
                break;
            }
            documents.extend(hits.into_iter().map(|mut hit| Document {
                index: hit["_index"].as_str().unwrap_or_default().to_owned(),
                id: hit["_id"].as_str().unwrap_or_default().to_owned(),
                source: hit["_source"].take(),
            }));
            let next = json!({"scroll": "1m", "scroll_id": answer["_scroll_id"]});
            answer = self.ask("POST", "/_search/scroll", Some(&next));
        }
        self.ask("DELETE", "/_search/scroll", Some(&json!({"scroll_id": answer["_scroll_id"]})));
        documents.sort_by(|a, b| (&a.id, &a.index).cmp(&(&b.id, &b.index)));
        documents
    }

    /// Sends a bulk body as it is and returns the response, whatever its status.
    pub fn bulk(&self, body: &[u8]) -> Response {
        self.http.send("POST", "/_bulk", "application/x-ndjson", body).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Indexes documents with a bulk request and returns the status of each.
    pub fn index(&self, index: &str, documents: &[(&str, Value)]) -> Vec<u16> {
        let mut body = String::new();
        for (id, source) in documents {
            body.push_str(&format!("{}\n{source}\n", json!({"index": {"_index": index, "_id": id}})));
        }
        let answer = self.bulk(body.as_bytes()).success().unwrap_or_else(|error| panic!("bulk: {error}"));
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["index"]["status"].as_u64().unwrap_or(0) as u16).collect()
    }

    /// Sends a request that must succeed.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let response = match body {
            Some(body) => self.http.json(method, path, body),
            None => self.http.send(method, path, "", b""),
        };
        response.and_then(|response| response.success()).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}
