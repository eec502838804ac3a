//! How messages are written: a packet is `["<from>",[frame,...]]`, a frame is `[kind,id,"name",payload]`.
//!
//! JSON, so that `redis-cli subscribe` shows what goes on; payloads are taken over as they are, without being read
//! and written again.
//!
//! A frame has four members for ever: a node that finds another number cannot read the whole packet. What is new comes
//! as a frame of a new kind, which nodes that do not know it pass over. So the trace of a message is a frame of its own
//! right before it, `[6,0,"<traceparent>",null]`, and only there when there is a trace.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::BusError;
use crate::ids::NodeId;
use crate::trace::TraceContext;

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
    /// The trace that the next frame belongs to, in the place of the name.
    Trace,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Send => 2,
            Self::Reply => 3,
            Self::Failure => 4,
            Self::Echo => 5,
            Self::Trace => 6,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Request, Self::Send, Self::Reply, Self::Failure, Self::Echo, Self::Trace]
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

impl Frame<'_> {
    fn is_trace(&self) -> bool {
        Kind::from_number(self.0) == Some(Kind::Trace)
    }
}

/// Gives each frame the trace that was said before it.
pub(super) fn with_traces<'f, 'a>(
    frames: &'f [Frame<'a>],
) -> impl Iterator<Item = (&'f Frame<'a>, Option<TraceContext>)> {
    let mut before: Option<&Frame<'a>> = None;
    frames.iter().filter_map(move |frame| {
        let trace = before.replace(frame).filter(|before| before.is_trace());
        let trace = trace.and_then(|trace| TraceContext::parse(trace.2));
        (!frame.is_trace()).then_some((frame, trace))
    })
}

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
    /// The trace that it belongs to.
    pub(super) trace: Option<TraceContext>,
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
        let Outgoing { kind, id, name, payload, trace } = message;
        let before = self.text.len();
        let traced = match trace {
            Some(trace) => self.write(&(Kind::Trace.number(), 0, trace.to_string(), ())),
            None => Ok(()),
        };
        traced.and_then(|()| self.write(&(kind.number(), id, name, payload))).map_err(|_| {
            self.text.truncate(before);
            BusError::Undecodable
        })
    }

    fn write(&mut self, frame: &impl Serialize) -> serde_json::Result<()> {
        if self.text.len() > self.head {
            self.text.push(b',');
        }
        serde_json::to_writer(&mut self.text, frame)
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
        Outgoing { kind, id, name, payload, trace: None }
    }

    /// A packet as nodes read it before there were traces.
    fn kinds_an_old_node_sees(packet: &[u8]) -> Vec<u8> {
        #[derive(Deserialize)]
        struct Old<'a>(
            #[serde(borrow)] &'a str,
            #[serde(borrow)] Vec<(u8, u64, &'a str, &'a RawValue)>,
        );
        let Old(from, frames) = serde_json::from_slice(packet).unwrap();
        assert!(from.starts_with("a#"), "{from}");
        frames.iter().map(|frame| frame.0).filter(|kind| *kind <= 5).collect()
    }

    #[test]
    fn a_trace_belongs_to_the_frame_behind_it_and_is_passed_over_by_nodes_that_do_not_know_it() {
        let trace = TraceContext { sampled: true, ..TraceContext::random() };
        let mut writer = PacketWriter::new(&NodeId::begin("a".parse().unwrap()));
        let traced = |id| Outgoing { trace: Some(trace), ..frame(Kind::Request, id, "ask", &1) };
        writer.push(&traced(1)).unwrap();
        writer.push(&frame(Kind::Request, 2, "ask", &1)).unwrap();
        writer.push(&traced(3)).unwrap();
        let packet = writer.take();
        let (_, frames) = read(&packet).unwrap();
        let seen: Vec<_> = with_traces(&frames).map(|(frame, trace)| (frame.1, trace)).collect();
        assert_eq!(seen, [(1, Some(trace)), (2, None), (3, Some(trace))]);
        assert_eq!(kinds_an_old_node_sees(&packet), [1, 1, 1]);
    }

    #[test]
    fn a_trace_that_is_none_leaves_the_frame_behind_it_alone() {
        let from = NodeId::begin("a".parse().unwrap());
        let packet = format!(r#"["{from}",[[6,0,"00-no",null],[1,7,"ask",1],[6,0,"x",null]]]"#);
        let (_, frames) = read(packet.as_bytes()).unwrap();
        let seen: Vec<_> = with_traces(&frames).map(|(frame, trace)| (frame.1, trace)).collect();
        assert_eq!(seen, [(7, None)]);
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
        let traced =
            Outgoing { trace: Some(TraceContext::random()), ..frame(Kind::Send, 1, "x", &bad) };
        assert_eq!(writer.push(&traced), Err(BusError::Undecodable));
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
