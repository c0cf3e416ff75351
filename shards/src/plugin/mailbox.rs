//! Mailboxes: messages between the instances of one input on different shards.
//!
//! Guarantees: each mailbox is bounded, and a full one returns the message. Messages from one shard arrive in order. Does not
//! know what a message means.

use crate::env::ShardId;
use crate::ring::{Consumer, Producer};
use crate::signal::Signal;
use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

/// A message between instances of one input on different shards.
pub type PeerMessage = Box<dyn Any + Send>;

/// The mailboxes of one input on one shard.
pub struct Peers {
    /// To each shard; none to the own shard.
    to: RefCell<Vec<Option<Producer<PeerMessage>>>>,
    from: RefCell<Vec<Option<Consumer<PeerMessage>>>>,
    arrived: Arc<Signal>,
    arrived_at: Vec<Arc<Signal>>,
    shard: ShardId,
}

/// Capacity of one mailbox, in messages.
const PEER_SLOTS: usize = 1024;

/// The mailboxes of one input: for each of `shards` shards its own.
pub fn peers(shards: usize) -> Vec<PeersSeed> {
    let signals: Vec<Arc<Signal>> = (0..shards).map(|_| Arc::new(Signal::new())).collect();
    let mut all: Vec<PeersSeed> =
        (0..shards).map(|_| PeersSeed { to: Vec::new(), from: Vec::new(), arrived_at: signals.clone() }).collect();
    for from in 0..shards {
        for to in 0..shards {
            let (producer, consumer) = match from == to {
                true => (None, None),
                false => {
                    let (producer, consumer) = crate::ring::ring(PEER_SLOTS);
                    (Some(producer), Some(consumer))
                }
            };
            all[from].to.push(producer);
            all[to].from.push(consumer);
        }
    }
    all
}

/// Mailboxes that have not been opened on their shard yet.
pub struct PeersSeed {
    to: Vec<Option<Producer<PeerMessage>>>,
    from: Vec<Option<Consumer<PeerMessage>>>,
    arrived_at: Vec<Arc<Signal>>,
}

impl PeersSeed {
    /// Opens the mailboxes on their shard.
    pub fn open(self, shard: ShardId) -> Peers {
        let arrived = self.arrived_at[shard.index()].clone();
        Peers { to: self.to.into(), from: self.from.into(), arrived, arrived_at: self.arrived_at, shard }
    }
}

impl Peers {
    /// Puts a message into another shard's mailbox. Returns it if that mailbox is full or the shard is this one.
    pub fn send(&self, to: ShardId, message: PeerMessage) -> Result<(), PeerMessage> {
        match self.to.borrow_mut()[to.index()].as_mut() {
            None => return Err(message),
            Some(producer) => producer.push(message)?,
        }
        self.arrived_at[to.index()].notify();
        Ok(())
    }

    /// A message that has arrived.
    pub fn try_receive(&self) -> Option<(ShardId, PeerMessage)> {
        let mut from = self.from.borrow_mut();
        from.iter_mut().enumerate().find_map(|(index, consumer)| {
            let message = consumer.as_mut()?.pop()?;
            Some((ShardId(u16::try_from(index).ok()?), message))
        })
    }

    /// Waits for a message. Only one task of an instance waits.
    pub async fn receive(&self) -> (ShardId, PeerMessage) {
        loop {
            if let Some(message) = self.try_receive() {
                return message;
            }
            self.arrived.wait().await;
        }
    }

    /// The shard these mailboxes belong to.
    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_the_right_shard() {
        let mut seeds = peers(3);
        let last = seeds.pop().expect("three").open(ShardId(2));
        let first = seeds.swap_remove(0).open(ShardId(0));
        assert!(first.send(ShardId(2), Box::new(7u32)).is_ok());
        assert!(first.send(ShardId(0), Box::new(8u32)).is_err());
        let (from, message) = last.try_receive().expect("one was sent");
        assert_eq!(from, ShardId(0));
        assert_eq!(message.downcast_ref::<u32>(), Some(&7));
        assert!(last.try_receive().is_none());
    }
}
