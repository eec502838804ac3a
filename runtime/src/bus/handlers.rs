//! What this node does with each message, by name.

use std::sync::Arc;

use dashmap::DashMap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::value::{RawValue, to_raw_value};

use super::{BusError, BusRequest};
use crate::ids::NodeId;

/// The answer to one request, ready to be sent; a future that owns all it needs.
pub(super) type Answer = BoxFuture<'static, Result<Box<RawValue>, BusError>>;
/// The name of a request and its answer.
pub(super) type Begun = (&'static str, Answer);
type Handler = Arc<dyn Fn(NodeId, &RawValue) -> Result<Answer, BusError> + Send + Sync>;

#[derive(Default)]
pub(super) struct Handlers {
    by_name: DashMap<&'static str, Handler>,
}

impl Handlers {
    pub(super) fn add<M, F, Fut>(&self, handler: F)
    where
        M: BusRequest,
        F: Fn(NodeId, M) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = M::Reply> + Send + 'static,
    {
        let typed: Handler = Arc::new(move |from, payload| {
            let message: M = serde_json::from_str(payload.get()).map_err(|error| {
                tracing::warn!(message = M::NAME, node.from = %from, %error, "a message cannot be read");
                BusError::Undecodable
            })?;
            let answer = handler(from, message);
            Ok(async move { to_raw_value(&answer.await).map_err(|_| BusError::Undecodable) }
                .boxed())
        });
        self.by_name.insert(M::NAME, typed);
    }

    /// Begins to handle a message.
    pub(super) fn begin(
        &self,
        from: NodeId,
        name: &str,
        payload: &RawValue,
    ) -> Result<Begun, BusError> {
        let known = self.by_name.get(name);
        let known = known.map(|entry| (*entry.key(), Arc::clone(entry.value())));
        let Some((known, handler)) = known else {
            tracing::debug!(message = name, node.from = %from, "no handler for a message");
            return Err(BusError::NoHandler);
        };
        Ok((known, handler(from, payload)?))
    }
}
