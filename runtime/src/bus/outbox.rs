//! What waits to be sent to one node. While a packet to it is on its way, more is collected for the next.

use bytes::Bytes;
use serde::Serialize;

use super::BusError;
use super::frame::{Kind, Outgoing, PacketWriter};
use crate::ids::NodeId;

/// A packet that is so large is full: Redis delivers it whole or not at all, and others wait behind it.
const FULL_BYTES: usize = 1 << 20;
/// How much may wait for one node; more is refused.
const MAX_WAITING: usize = 16_384;

/// Frames for one node.
#[derive(Debug)]
pub(super) struct Outbox {
    writer: PacketWriter,
    /// The requests among the frames, by id: they fail together when nobody listens.
    requests: Vec<u64>,
    /// Whether there are answers only, which do no harm when they come twice.
    is_repeatable: bool,
    /// Packets that became full while another was on its way.
    full: Vec<Batch>,
    waiting: usize,
    on_its_way: bool,
}

/// One packet and the requests in it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) packet: Bytes,
    pub(super) requests: Vec<u64>,
    /// Whether it does no harm when it comes twice.
    pub(super) is_repeatable: bool,
}

impl Outbox {
    pub(super) fn new(from: &NodeId) -> Self {
        Self {
            writer: PacketWriter::new(from),
            requests: Vec::new(),
            is_repeatable: true,
            full: Vec::new(),
            waiting: 0,
            on_its_way: false,
        }
    }

    /// Puts a frame in; returns a packet if the caller must send it now, and then ask for the [`next`](Self::next).
    pub(super) fn push<P: Serialize>(
        &mut self,
        message: &Outgoing<'_, P>,
    ) -> Result<Option<Batch>, BusError> {
        if self.waiting >= MAX_WAITING {
            return Err(BusError::NoReceiver);
        }
        self.writer.push(message)?;
        self.waiting += 1;
        match message.kind {
            Kind::Request => {
                self.requests.push(message.id);
                self.is_repeatable = false;
            }
            Kind::Send => self.is_repeatable = false,
            Kind::Reply | Kind::Failure | Kind::Echo | Kind::Trace => {}
        }
        if self.on_its_way {
            if self.writer.len() > FULL_BYTES {
                let batch = self.batch();
                self.full.push(batch);
            }
            return Ok(None);
        }
        self.on_its_way = true;
        self.waiting = 0;
        Ok(Some(self.batch()))
    }

    /// Notes that a packet arrived; returns the next one, if anything was collected meanwhile.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let batch = if self.full.is_empty() {
            (!self.writer.is_empty()).then(|| self.batch())
        } else {
            Some(self.full.remove(0))
        };
        if self.full.is_empty() {
            self.waiting = 0;
        }
        self.on_its_way = batch.is_some();
        batch
    }

    /// Whether nothing waits and nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        !self.on_its_way
    }

    fn batch(&mut self) -> Batch {
        Batch {
            packet: self.writer.take(),
            requests: std::mem::take(&mut self.requests),
            is_repeatable: std::mem::replace(&mut self.is_repeatable, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::read;
    use super::*;

    fn frame<'a, P>(kind: Kind, id: u64, name: &'a str, payload: &'a P) -> Outgoing<'a, P> {
        Outgoing { kind, id, name, payload, trace: None }
    }

    fn outbox() -> Outbox {
        Outbox::new(&NodeId::begin("a".parse().unwrap()))
    }

    #[test]
    fn what_comes_while_a_packet_is_on_its_way_travels_together() {
        let mut outbox = outbox();
        let first = outbox.push(&frame(Kind::Request, 1, "x", &1)).unwrap().unwrap();
        assert_eq!(
            (first.requests.as_slice(), read(&first.packet).unwrap().1.len()),
            (&[1][..], 1)
        );
        for id in 2..10 {
            assert!(outbox.push(&frame(Kind::Request, id, "x", &id)).unwrap().is_none());
        }
        assert!(outbox.push(&frame(Kind::Reply, 3, "", &())).unwrap().is_none());
        let second = outbox.next().unwrap();
        assert_eq!((second.requests.len(), read(&second.packet).unwrap().1.len()), (8, 9));
        assert!(outbox.next().is_none() && outbox.is_idle());
        assert!(outbox.push(&frame(Kind::Send, 11, "x", &1)).unwrap().is_some());
    }

    #[test]
    fn only_answers_are_sent_again() {
        for (kind, expected) in [
            (Kind::Reply, true),
            (Kind::Failure, true),
            (Kind::Request, false),
            (Kind::Send, false),
        ] {
            let mut outbox = outbox();
            let first = outbox.push(&frame(Kind::Reply, 1, "", &1)).unwrap().unwrap();
            assert!(first.is_repeatable);
            assert!(outbox.push(&frame(Kind::Reply, 2, "", &1)).unwrap().is_none());
            assert!(outbox.push(&frame(kind, 3, "x", &1)).unwrap().is_none());
            assert_eq!(outbox.next().unwrap().is_repeatable, expected, "{kind:?}");
            assert!(outbox.next().is_none());
            let last = outbox.push(&frame(Kind::Reply, 4, "", &1)).unwrap().unwrap();
            assert!(last.is_repeatable, "after {kind:?}");
        }
    }

    #[test]
    fn large_messages_are_not_packed_together() {
        let mut outbox = outbox();
        let large = "x".repeat(FULL_BYTES);
        outbox.push(&frame(Kind::Send, 1, "x", &1)).unwrap();
        for id in 2..5 {
            outbox.push(&frame(Kind::Request, id, "x", &large)).unwrap();
        }
        for id in 2..5 {
            assert_eq!(outbox.next().unwrap().requests, [id]);
        }
        assert!(outbox.next().is_none());
    }

    #[test]
    fn k4_what_waits_is_bounded() {
        let mut outbox = outbox();
        outbox.push(&frame(Kind::Send, 0, "x", &1)).unwrap();
        for id in 0..MAX_WAITING {
            outbox.push(&frame(Kind::Send, id as u64, "x", &1)).unwrap();
        }
        assert_eq!(outbox.push(&frame(Kind::Send, 1, "x", &1)).err(), Some(BusError::NoReceiver));
        outbox.next().unwrap();
        outbox.push(&frame(Kind::Send, 1, "x", &1)).unwrap();
    }
}
