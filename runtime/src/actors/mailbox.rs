//! The way to an actor of which there is one on a node, with a count of what waits for it: actix tells nobody how much is in
//! a mailbox.

use std::fmt;

use actix::dev::{Request, ToEnvelope};
use actix::{Actor, Addr, Handler, Message, WeakAddr};

use super::Probe;

/// An address that counts what is handed to the actor; a cheap clone. The actor's handlers count what they take out, with
/// [`Probe::take`].
pub struct Mailbox<A: Actor> {
    address: Addr<A>,
    probe: Probe,
}

/// The same, without keeping the actor alive.
pub struct WeakMailbox<A: Actor> {
    address: WeakAddr<A>,
    probe: Probe,
}

impl<A: Actor> Mailbox<A> {
    /// Counts for `probe` what is sent to `address`.
    #[must_use]
    pub const fn new(address: Addr<A>, probe: Probe) -> Self {
        Self { address, probe }
    }

    /// Sends a message, and hears nothing of it.
    pub fn do_send<M>(&self, message: M)
    where
        M: Message + Send,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.count();
        self.address.do_send(message);
    }

    /// Sends a message; the answer is an error when the actor is gone. To be waited for to its end: actix drops what nobody
    /// waits for from the mailbox, and it would count as waiting from then on.
    pub fn send<M>(&self, message: M) -> Request<A, M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.count();
        self.address.send(message)
    }

    /// Makes a way there that does not keep the actor alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakMailbox<A> {
        WeakMailbox { address: self.address.downgrade(), probe: self.probe.clone() }
    }

    /// Before it is sent: the actor may be quicker than the next line. What is sent to one that is gone never waits.
    fn count(&self) {
        if self.address.connected() {
            self.probe.handed();
        }
    }
}

impl<A: Actor> WeakMailbox<A> {
    /// Makes a way there; none when the actor is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Mailbox<A>> {
        let address = self.address.upgrade()?;
        Some(Mailbox { address, probe: self.probe.clone() })
    }
}

// Not derived: that would ask for clones of the actor.
impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), probe: self.probe.clone() }
    }
}

impl<A: Actor> Clone for WeakMailbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), probe: self.probe.clone() }
    }
}

impl<A: Actor> fmt::Debug for Mailbox<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mailbox").field(&self.probe).finish()
    }
}

impl<A: Actor> fmt::Debug for WeakMailbox<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakMailbox").field(&self.probe).finish()
    }
}
