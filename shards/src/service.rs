//! Services: tasks that run beside the inputs on one shard, such as the admin endpoint.
//!
//! Guarantees: a service serves until its shard has delivered what it could, also while the engine drains. Then it is dropped before the
//! shard ends: a process that waits for a call that never returns keeps its descriptors, and must not keep an address that the next
//! start needs. The shutdown waits for nothing that a service does.

use crate::env::Env;
use crate::plugin::LocalFuture;
use crate::signal::Signal;
use crate::stop::Stop;
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;

/// A task that runs beside the inputs on one shard.
pub trait Service<E: Env>: Send + Sync + 'static {
    /// Runs until it has nothing more to do, or is dropped.
    fn run(&self, env: E, stop: Stop) -> LocalFuture<'static, ()>;
}

/// The services of a shard.
pub(crate) struct Services(Vec<Rc<Ends>>);

/// The end of a service.
#[derive(Default)]
struct Ends {
    wanted: Signal,
    reached: Signal,
}

impl Services {
    pub(crate) fn start<E: Env>(env: &E, stop: &Stop, services: &[Arc<dyn Service<E>>]) -> Services {
        let all = services.iter().map(|service| {
            let (ends, running) = (Rc::new(Ends::default()), service.run(env.clone(), stop.clone()));
            let own = ends.clone();
            env.spawn("service", async move {
                or(running, own.wanted.wait()).await;
                own.reached.notify();
            });
            ends
        });
        Services(all.collect())
    }

    /// Ends all.
    pub(crate) async fn end(self) {
        for ends in self.0 {
            ends.wanted.notify();
            ends.reached.wait().await;
        }
    }
}
