//! The input's instance on every shard except the home shard: follows the instructions of the home shard.
//!
//! Guarantees: ignores all instructions until it is welcomed, because earlier ones were meant for a previous instance.

use super::content::FileOf;
use super::owner::Owner;
use super::post::{Post, ToHome, ToOwner};
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Env, ShardId};
use tailwater_shards::plugin::{InputContext, PluginError};

/// Runs until it is dropped.
pub async fn run<E: Env>(context: &InputContext<E>, owner: Rc<Owner<E>>, post: Rc<Post>) -> Result<(), PluginError> {
    post.send(ShardId(0), ToHome::<FileOf<E>>::Hello(context.resume.clone()));
    let mut welcome = false;
    let mut tick_at = owner.next_tick(context.env.now(), false);
    loop {
        post.flush();
        let now = context.env.now();
        if now >= tick_at {
            owner.tick().await;
            owner.notebook.write_soon(owner.notes(&context.lanes));
            tick_at = owner.next_tick(now, true);
        }
        tick_at = tick_at.min(owner.next_tick(now, true));
        let rest = if post.is_waiting() { Duration::from_millis(10) } else { tick_at.since(context.env.now()) };
        let mail = async { Some(context.peers.receive().await.1) };
        let pause = async {
            // Without files there is nothing to check, and a message wakes this task.
            if owner.is_idle() && !post.is_waiting() {
                std::future::pending::<()>().await;
            }
            or(owner.stirred(), context.env.sleep(rest)).await;
            None
        };
        let Some(message) = or(mail, pause).await else { continue };
        let Ok(message) = message.downcast::<ToOwner<FileOf<E>>>() else { continue };
        match *message {
            ToOwner::Welcome => welcome = true,
            ToOwner::SayHello if welcome => {
                welcome = false;
                post.send(ShardId(0), ToHome::<FileOf<E>>::Hello(Arc::new(owner.forget_all())));
            }
            message if welcome => obey(&owner, message),
            _ => {}
        }
    }
}

/// Carries out an instruction of the home shard.
pub fn obey<E: Env>(owner: &Owner<E>, message: ToOwner<FileOf<E>>) {
    match message {
        ToOwner::Assign(assignment) => owner.assign(*assignment),
        ToOwner::Modified(ids) => ids.into_iter().for_each(|id| owner.wake(id)),
        ToOwner::Moved(id, path) => owner.moved(id, path),
        ToOwner::Away(id) => owner.gone_away(id),
        ToOwner::Replace(id, replacement) => owner.replace(id, replacement),
        ToOwner::Compare(id, successor) => owner.compare(id, successor),
        ToOwner::Shed => owner.shed(),
        ToOwner::Welcome | ToOwner::SayHello => {}
    }
}
