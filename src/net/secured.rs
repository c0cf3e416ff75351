//! The TLS settings of an open output, with the files as they are now.
//!
//! Guarantees: a renewed file of `tls` is used for new connections without a restart. The files are read again, off the executor,
//! before a new connection: [`DOUBTED_PAUSE`] after the last time if a connection failed or the server rejected the client, and
//! [`QUIET_PAUSE`] otherwise. New files that cannot be used are reported once, and the earlier ones stay in use. Does not touch
//! open connections, and watches no files.

use super::tls::Tls;
use super::trust::explained;
use futures_rustls::TlsConnector;
use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};

/// The time between two looks at the files after a failure.
const DOUBTED_PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };

/// The time between two looks at the files without a failure.
const QUIET_PAUSE: Duration = Duration::from_secs(60);

/// How connections are secured: see the module.
pub struct Secured {
    tls: Tls,
    connector: RefCell<TlsConnector>,
    /// Identifies the content of the files in use.
    stamp: Cell<u128>,
    looked: Cell<Monotonic>,
    is_doubted: Cell<bool>,
    /// What was said about files that cannot be used.
    complaint: RefCell<Option<String>>,
}

impl Secured {
    /// Reads the files.
    pub async fn open<E: Env>(tls: Tls, env: &E) -> Result<Secured, String> {
        let (own, disk) = (tls.clone(), env.disk().clone());
        let looked = Cell::new(env.now());
        let (connector, stamp) = env.blocking(move || own.read(&disk)).await?;
        let (connector, stamp) = (RefCell::new(connector), Cell::new(stamp));
        Ok(Secured { tls, connector, stamp, looked, is_doubted: Cell::new(false), complaint: RefCell::default() })
    }

    /// The name in the server's certificate, if it is not the endpoint's host.
    pub fn server_name(&self) -> Option<&str> {
        self.tls.server_name.as_deref()
    }

    /// Whether the server gets a client certificate.
    pub fn has_client_certificate(&self) -> bool {
        self.tls.cert_file.is_some()
    }

    /// Something failed that other files may mend.
    pub fn doubt(&self) {
        self.is_doubted.set(true);
    }

    /// Says why a connection failed, and what to do.
    pub fn explained(&self, error: &(dyn StdError + 'static)) -> String {
        explained(error, self.tls.ca_file.as_deref())
    }

    /// Creates TLS connections with the files as they are now, or were a short time ago.
    pub async fn connector<E: Env>(&self, env: &E) -> TlsConnector {
        let pause = if self.is_doubted.get() { DOUBTED_PAUSE } else { QUIET_PAUSE };
        let now = env.now();
        if now.since(self.looked.get()) >= pause {
            self.looked.set(now);
            self.is_doubted.set(false);
            self.look(env).await;
        }
        self.connector.borrow().clone()
    }

    async fn look<E: Env>(&self, env: &E) {
        let (tls, disk, stamp) = (self.tls.clone(), env.disk().clone(), self.stamp.get());
        match env.blocking(move || tls.read_if_changed(&disk, stamp)).await {
            Ok(None) => drop(self.complaint.take()),
            Ok(Some((connector, stamp))) => {
                self.connector.replace(connector);
                self.stamp.set(stamp);
                self.complaint.take();
                tracing::info!("the files of `tls` have changed: new connections use them");
            }
            Err(what) => {
                if self.complaint.borrow().as_ref() != Some(&what) {
                    tracing::warn!("the changed files of `tls` cannot be used, the earlier ones stay in use: {what}");
                }
                self.complaint.replace(Some(what));
            }
        }
    }
}
