//! What a server can be told about approvals: where they are kept, who is told, who may sign in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::approval::flood::FloodLimits;
use crate::channel::{Hidden, WebhookConfig};

use super::to_std;

/// Where approvals are kept, and how much may be asked of people.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalsConfig {
    /// Where they are kept.
    pub store: StoreChoice,
    /// The file, where the store is `sqlite`. Its folder is made if it is not there.
    pub path: PathBuf,
    /// The database, where the store is `postgres`: `postgres://user@host/database`.
    pub url: Option<Hidden>,
    /// A file with the database's password.
    pub password_file: Option<PathBuf>,
    /// Whether the connection to the database is encrypted, its certificate checked against those that the system trusts.
    pub tls: bool,
    /// The certificates that the database's own must lead to, in PEM; with it the connection is encrypted.
    pub ca_file: Option<PathBuf>,
    /// How many connections to the database there may be.
    pub max_connections: usize,
    /// Whether a database may be used that can lose what it acknowledged. For tests.
    pub allow_unsafe_settings: bool,
    /// How many approvals of one requester may wait at once.
    pub pending_per_requester: u32,
    /// How many approvals one requester may open within a minute.
    pub opened_per_minute: u32,
    /// How long a denied request is answered without asking anybody again; doubled for each denial in a row.
    pub cool_down: SignedDuration,
    /// The longest cool-down.
    pub longest_cool_down: SignedDuration,
}

/// Where approvals are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StoreChoice {
    /// In a file of this server.
    #[default]
    Sqlite,
    /// In a database that several servers share.
    Postgres,
    /// Nowhere: what requires approval is answered so, and nothing can be redeemed.
    None,
}

impl Default for ApprovalsConfig {
    fn default() -> Self {
        let limits = FloodLimits::default();
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        Self {
            store: StoreChoice::default(),
            path: PathBuf::from("countersign-data/approvals.sqlite"),
            url: None,
            password_file: None,
            tls: false,
            ca_file: None,
            max_connections: 16,
            allow_unsafe_settings: false,
            pending_per_requester: limits.pending_per_requester,
            opened_per_minute: limits.opened_per_minute,
            cool_down: signed(limits.cool_down),
            longest_cool_down: signed(limits.longest_cool_down),
        }
    }
}

impl ApprovalsConfig {
    /// How much may be asked of people.
    pub fn limits(&self) -> FloodLimits {
        FloodLimits {
            pending_per_requester: self.pending_per_requester,
            opened_per_minute: self.opened_per_minute,
            cool_down: non_negative(self.cool_down),
            longest_cool_down: non_negative(self.longest_cool_down),
        }
    }

    /// What is wrong with it: the key and why.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        let zero = [
            (
                "approvals.pending_per_requester",
                self.pending_per_requester == 0,
            ),
            ("approvals.opened_per_minute", self.opened_per_minute == 0),
            ("approvals.max_connections", self.max_connections == 0),
        ];
        if let Some((key, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Some((key, "is 0".to_owned()));
        }
        let negative = [
            ("approvals.cool_down", self.cool_down),
            ("approvals.longest_cool_down", self.longest_cool_down),
        ];
        if let Some((key, _)) = negative
            .into_iter()
            .find(|(_, duration)| duration.is_negative())
        {
            return Some((key, "is negative".to_owned()));
        }
        match (self.store, &self.url) {
            (StoreChoice::Postgres, None) => Some((
                "approvals.url",
                "is required where the store is `postgres`".to_owned(),
            )),
            (StoreChoice::Sqlite | StoreChoice::None, Some(_)) => Some((
                "approvals.url",
                "is for the store `postgres` only".to_owned(),
            )),
            (StoreChoice::Postgres, Some(_)) | (StoreChoice::Sqlite | StoreChoice::None, None) => {
                None
            }
        }
    }
}

fn non_negative(duration: SignedDuration) -> Duration {
    to_std(duration)
}

/// Where people are told.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelsConfig {
    /// Webhooks, by the name that rules use: `webhook:soc` is `[channels.webhook.soc]`.
    pub webhook: BTreeMap<String, WebhookConfig>,
}
