//! What the console needs of the node it is part of.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use understudy_runtime::admin::Principal;

/// The node as its console sees it: where its admin API is, and who its visitors are.
pub trait Backstage: Debug + Send + Sync + 'static {
    /// Where the admin API can be asked from this machine; `None` when it is off.
    fn address(&self) -> Option<SocketAddr>;

    /// The name of the node.
    fn node(&self) -> String;

    /// Whose token it is.
    fn owner_of(&self, token: &str) -> Option<Principal>;

    /// What a browser keeps to be known again, and for how long it is good.
    fn sign_in(&self, who: &Principal) -> (String, Duration);

    /// Who has signed in with a browser that shows this.
    fn browser(&self, sealed: Option<&str>) -> Option<Principal>;

    /// Ends what a browser was given when somebody signed in, on all nodes, whoever has a copy of it. Takes a few seconds at
    /// most.
    fn sign_out(&self, sealed: &str) -> LocalBoxFuture<'static, ()>;

    /// The token with which the API is asked on somebody's behalf.
    fn on_behalf_of(&self, who: &Principal) -> String;

    /// Whether everybody may look without signing in.
    fn is_open(&self) -> bool;

    /// The time, ms since 1970.
    fn now_ms(&self) -> u64;
}
