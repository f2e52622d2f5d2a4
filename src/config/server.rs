//! What a server can be told about how to serve.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{Fault, NOTHING};

/// How to serve.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where to listen on TCP; port 0 for any free one. Loopback unless told otherwise.
    pub listen: Vec<SocketAddr>,
    /// A unix socket to listen on as well; created with mode 0660.
    pub unix: Option<PathBuf>,
    /// Where to listen for those who run the server: the audit log as tiles over HTTP. Nobody is asked who they are there.
    pub operators: Option<SocketAddr>,
    /// How many threads serve, each with a runtime of its own; 0 for one on each core.
    pub threads: usize,
    /// How many connections there may be at once.
    pub max_connections: usize,
    /// How many calls one connection may have open at once.
    pub max_concurrent_streams: u32,
    /// How long calls under way may go on after the order to stop.
    pub drain_timeout: SignedDuration,
    /// How long a connection lives, give or take a tenth, before it is asked to reconnect.
    pub max_connection_age: SignedDuration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 50_051))],
            unix: None,
            operators: None,
            threads: 0,
            max_connections: 10_000,
            max_concurrent_streams: 256,
            drain_timeout: SignedDuration::from_secs(20),
            max_connection_age: SignedDuration::from_mins(30),
        }
    }
}

impl ServerConfig {
    /// What is wrong with it: the key and why.
    pub(super) fn fault(&self, has_development_logins: bool) -> Option<Fault> {
        let mut addresses = self.listen.iter();
        let reachable = addresses.find(|address| !address.ip().is_loopback());
        if let (true, Some(address)) = (has_development_logins, reachable) {
            let message = format!(
                "believes everybody, so the server may listen on loopback only, and `{address}` is not"
            );
            return Some(("identity.development_logins", message));
        }
        if self.listen.is_empty() && self.unix.is_none() {
            let message = "there is neither an address nor a unix socket to listen on";
            return Some(("server.listen", message.to_owned()));
        }
        let durations = [
            ("server.drain_timeout", self.drain_timeout),
            ("server.max_connection_age", self.max_connection_age),
        ];
        let short = durations.iter().find(|(_, each)| !each.is_positive());
        if let Some((key, _)) = short {
            return Some((key, NOTHING.to_owned()));
        }
        let none = "is 0".to_owned();
        match (self.max_connections, self.max_concurrent_streams) {
            (0, _) => Some(("server.max_connections", none)),
            (_, 0) => Some(("server.max_concurrent_streams", none)),
            (_, _) => None,
        }
    }
}
