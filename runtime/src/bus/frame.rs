//! How messages are written: a packet is `["<from>",[frame,...]]`, a frame is `[kind,id,"name",payload]`.
//!
//! JSON, so that `redis-cli subscribe` shows what goes on; payloads are taken over as they are, without being read
//! and written again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::BusError;
use crate::ids::NodeId;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    /// A request without an answer.
    Send,
    Reply,
    /// An answer that is an error; the name says which.
    Failure,
    /// A node's word to itself, by which it learns that it is heard.
    Echo,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Send => 2,
            Self::Reply => 3,
            Self::Failure => 4,
            Self::Echo => 5,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Request, Self::Send, Self::Reply, Self::Failure, Self::Echo]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A packet as it came.
#[derive(Debug, Deserialize)]
pub(super) struct Packet<'a>(
    #[serde(borrow)] pub(super) &'a str,
    #[serde(borrow)] pub(super) Vec<Frame<'a>>,
);

/// A frame as it came: kind, id, name, payload.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a>(
    pub(super) u8,
    pub(super) u64,
    #[serde(borrow)] pub(super) &'a str,
    #[serde(borrow)] pub(super) &'a RawValue,
);

/// Reads a packet; `None` when it is not one.
pub(super) fn read(packet: &[u8]) -> Option<(NodeId, Vec<Frame<'_>>)> {
    let Packet(from, frames) = serde_json::from_slice(packet).ok()?;
    Some((from.parse().ok()?, frames))
}

/// A frame to be sent.
#[derive(Debug)]
pub(super) struct Outgoing<'a, P> {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) name: &'a str,
    pub(super) payload: &'a P,
}

/// Frames on their way into a packet, without its end.
#[derive(Debug, Clone)]
pub(super) struct PacketWriter {
    text: Vec<u8>,
    head: usize,
}

impl PacketWriter {
    pub(super) fn new(from: &NodeId) -> Self {
        // A node id consists of characters that need no escape.
        let text = format!("[\"{from}\",[").into_bytes();
        Self { head: text.len(), text }
    }

    /// Appends a frame. A payload that cannot be written leaves the packet as it was.
    pub(super) fn push<P: Serialize>(&mut self, message: &Outgoing<'_, P>) -> Result<(), BusError> {
        let Outgoing { kind, id, name, payload } = message;
        let before = self.text.len();
        if before > self.head {
            self.text.push(b',');
        }
        let written = serde_json::to_writer(&mut self.text, &(kind.number(), id, name, payload));
        written.map_err(|_| {
            self.text.truncate(before);
            BusError::Undecodable
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.len() == self.head
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes what was written as a packet and begins the next.
    pub(super) fn take(&mut self) -> Bytes {
        let next = self.text[..self.head].to_vec();
        let mut packet = std::mem::replace(&mut self.text, next);
        packet.extend_from_slice(b"]]");
        Bytes::from(packet)
    }
}

/// How an error is named on the way back.
pub(super) fn error_name(error: &BusError) -> &'static str {
    match error {
        BusError::NoReceiver => "busy",
        BusError::NoHandler => "no_handler",
        BusError::Undecodable => "undecodable",
        BusError::TimedOut | BusError::Unavailable => "failed",
    }
}

/// The reverse of [`error_name`].
pub(super) fn named_error(name: &str) -> BusError {
    match name {
        "busy" => BusError::NoReceiver,
        "no_handler" => BusError::NoHandler,
        "undecodable" => BusError::Undecodable,
        _ => BusError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame<'a, P>(kind: Kind, id: u64, name: &'a str, payload: &'a P) -> Outgoing<'a, P> {
        Outgoing { kind, id, name, payload }
    }

    #[test]
    fn a_packet_carries_frames_from_one_node() {
        let node = NodeId::begin("web-1".parse().unwrap());
        let mut writer = PacketWriter::new(&node);
        assert!(writer.is_empty());
        writer.push(&frame(Kind::Request, 7, "ask \"x\"", &vec![1, 2])).unwrap();
        writer.push(&frame(Kind::Echo, 8, "", &())).unwrap();
        let packet = writer.take();
        assert!(writer.is_empty());
        // A name with an escape cannot be borrowed, so it is not one: names are constants of the program.
        assert!(read(&packet).is_none());
        writer.push(&frame(Kind::Request, 7, "ask", &vec![1, 2])).unwrap();
        writer.push(&frame(Kind::Echo, 8, "", &())).unwrap();
        let packet = writer.take();
        let (from, frames) = read(&packet).unwrap();
        assert_eq!(from, node);
        assert_eq!(
            (frames[0].0, frames[0].1, frames[0].2, frames[0].3.get()),
            (1, 7, "ask", "[1,2]")
        );
        assert_eq!(Kind::from_number(frames[1].0), Some(Kind::Echo));
        assert!(read(b"[\"nobody\",[]]").is_none() && read(b"x").is_none());
    }

    #[test]
    fn a_payload_that_cannot_be_written_leaves_no_trace() {
        let mut writer = PacketWriter::new(&NodeId::begin("a".parse().unwrap()));
        let bad: std::collections::HashMap<(u8, u8), u8> = [((1, 2), 3)].into();
        assert_eq!(writer.push(&frame(Kind::Send, 1, "x", &bad)), Err(BusError::Undecodable));
        assert!(writer.is_empty());
        writer.push(&frame(Kind::Send, 1, "x", &1)).unwrap();
        let packet = writer.take();
        assert_eq!(read(&packet).unwrap().1.len(), 1);
    }

    #[test]
    fn errors_find_their_way_back() {
        for error in [
            BusError::NoReceiver,
            BusError::NoHandler,
            BusError::Undecodable,
            BusError::Unavailable,
        ] {
            assert_eq!(named_error(error_name(&error)), error);
        }
    }
}
