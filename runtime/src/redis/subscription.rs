//! Listening on channels across lost connections, with an honest word about what may have been missed.

use bytes::Bytes;
use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Message;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Redis;

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Message {
        /// On which channel.
        channel: String,
        /// What was sent.
        payload: Bytes,
    },
    /// Messages may have been lost: so many because they were not taken fast enough, or an unknown number (0) while
    /// there was no connection.
    Gap {
        /// How many are known to be lost.
        lost: u64,
    },
}

/// Channels being listened to. What is not taken waits, up to a bound, then the oldest are lost.
#[derive(Debug)]
pub struct Subscription {
    redis: Redis,
    channels: Vec<String>,
    messages: Receiver<Message>,
    connects: watch::Receiver<u64>,
    subscribed: bool,
}

impl Subscription {
    pub(super) fn new(redis: Redis, channels: Vec<String>) -> Self {
        let mut connects = redis.connects();
        // A connection that is there already must lead to the first round of subscribing.
        connects.mark_changed();
        Self { messages: redis.client().message_rx(), connects, redis, channels, subscribed: false }
    }

    /// Waits for the next message. Never ends while the connection is kept; safe to cancel.
    pub async fn next(&mut self) -> Incoming {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.connects.changed() => {
                    if self.listen_again().await {
                        return Incoming::Gap { lost: 0 };
                    }
                }
                message = self.messages.recv() => match message {
                    Ok(message) => {
                        if let Some(incoming) = convert(message) {
                            return incoming;
                        }
                    }
                    Err(RecvError::Lagged(lost)) => return Incoming::Gap { lost },
                    // The client was replaced: its successor will report a connection.
                    Err(RecvError::Closed) => self.wait_for_successor().await,
                },
            }
        }
    }

    /// Subscribes on the present connection; returns whether something may have been missed before.
    async fn listen_again(&mut self) -> bool {
        if *self.connects.borrow_and_update() == 0 {
            return false;
        }
        let client = self.redis.client();
        self.messages = client.message_rx();
        for channel in &self.channels {
            let done = if self.redis.is_cluster() {
                client.ssubscribe(channel.as_str()).await
            } else {
                client.subscribe(channel.as_str()).await
            };
            if let Err(error) = done {
                tracing::warn!(%channel, %error, "cannot subscribe");
                self.redis.reconnect("a subscription failed");
            }
        }
        std::mem::replace(&mut self.subscribed, true)
    }

    async fn wait_for_successor(&mut self) {
        if self.connects.changed().await.is_ok() {
            self.connects.mark_changed();
        } else {
            std::future::pending::<()>().await;
        }
    }
}

fn convert(message: Message) -> Option<Incoming> {
    let payload = message.value.into_bytes()?;
    Some(Incoming::Message { channel: message.channel.to_string(), payload })
}
