//! The real binary with a real OpenSearch, a real Elasticsearch, and servers that respond as no server should.
//!
//! *Product* and *case* are those of `e2e.rs`. A *scene* is a case whose outputs use HTTP. Most scenes share one server;
//! those that kill it or overload it take turns with a server of their own.
//!
//! Guarantees: the server itself is asked what arrived, document by document, and this is compared with the lines that were
//! written.

#[path = "search/blocks.rs"]
mod blocks;
#[path = "search/busy.rs"]
mod busy;
#[allow(dead_code, reason = "tests/e2e.rs uses all of it")]
#[path = "e2e/case.rs"]
mod case;
#[path = "search/conflicts.rs"]
mod conflicts;
#[path = "search/elastic.rs"]
mod elastic;
#[path = "search/endpoints.rs"]
mod endpoints;
#[path = "search/hostile.rs"]
mod hostile;
#[path = "search/ids.rs"]
mod ids;
#[path = "search/indexes.rs"]
mod indexes;
#[allow(dead_code, reason = "tests/e2e.rs uses all of it")]
#[path = "e2e/lines.rs"]
mod lines;
#[allow(dead_code, reason = "tests/e2e.rs uses all of it")]
#[path = "e2e/metrics.rs"]
mod metrics;
#[path = "search/node.rs"]
mod node;
#[path = "search/outage.rs"]
mod outage;
#[path = "search/patience.rs"]
mod patience;
#[allow(dead_code, reason = "tests/e2e.rs uses all of it")]
#[path = "e2e/product.rs"]
mod product;
#[path = "search/proxy.rs"]
mod proxy;
#[path = "search/refusals.rs"]
mod refusals;
#[path = "search/scene.rs"]
mod scene;
#[path = "search/server.rs"]
mod server;
#[path = "search/tenants.rs"]
mod tenants;
#[path = "search/tls.rs"]
mod tls;
#[path = "e2e/wait.rs"]
mod wait;
