//! Who may call: TLS, tokens and bindings, as they are configured.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::identity::{Authenticator, Credentials, KeyFetcher, Tls, Tokens};
use crate::usecase::callers::{Binding, BindingLimits, MethodSet, Who};
use crate::usecase::ports::Clock;

use super::StartError;

/// How callers are told.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) authenticator: Arc<Authenticator>,
}

impl Identities {
    /// Opens what `config` names.
    pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, StartError> {
        config
            .check_callers()
            .map_err(|error| StartError::Identity(error.into()))?;
        let bindings = bindings(config).map_err(StartError::Identity)?;
        let tls = open_tls(config, clock).map_err(StartError::Identity)?;
        let tokens = open_tokens(config, clock).map_err(StartError::Identity)?;
        let issuers = config.issuer.iter();
        let credentials = Credentials {
            bindings,
            tokens: tokens.clone(),
            issuers: issuers
                .map(|(name, issuer)| (name.clone(), issuer.meaning()))
                .collect(),
            development_logins: config.identity.development_logins,
        };
        Ok(Self {
            tls,
            tokens,
            authenticator: Arc::new(Authenticator::new(credentials, Arc::clone(clock))),
        })
    }

    /// Keeps the issuers' keys fresh until `stop`.
    pub(super) fn start(&self, background: &Handle, stop: &CancellationToken) {
        if let Some(tokens) = &self.tokens {
            background.spawn(Arc::clone(tokens).keep_fresh(stop.clone()));
        }
    }

    /// Reads certificates and keys again. What cannot be read stays as it is.
    pub(super) async fn reload(&self) {
        if let Some(tls) = self.tls.clone() {
            let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
            match reloaded {
                Ok(Ok(true)) => tracing::info!("the certificates are in force"),
                Ok(Ok(false)) => tracing::info!("the certificates have not changed"),
                Ok(Err(error)) => tracing::error!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "the certificates cannot be used, and those in force stay"
                ),
                Err(error) => tracing::error!(%error, "the certificates were not read"),
            }
        }
        if let Some(tokens) = &self.tokens {
            tokens.reload().await;
        }
    }
}

/// What callers may do, with what is for everybody at the end.
fn bindings(config: &Config) -> anyhow::Result<Vec<Binding>> {
    let configured = config.caller.iter().map(|(name, caller)| {
        caller
            .binding(name)
            .map_err(|(key, message)| anyhow::anyhow!("`caller.{name}.{key}`: {message}"))
    });
    let mut bindings = configured.collect::<anyhow::Result<Vec<_>>>()?;
    if config.identity.development_logins {
        bindings.push(Binding {
            name: "development".to_owned(),
            who: Who::DevelopmentLogin,
            methods: MethodSet::all(),
            speaks_for: Vec::new(),
            limits: BindingLimits::default(),
        });
    }
    if config.identity.unauthenticated_callers {
        bindings.push(Binding::for_everybody());
    }
    Ok(bindings)
}

fn open_tls(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Option<Arc<Tls>>> {
    let files = config
        .tls
        .files()
        .map_err(|(key, message)| anyhow::anyhow!("`{key}`: {message}"))?;
    let Some(files) = files else {
        return Ok(None);
    };
    let tls = Tls::open(files, Arc::clone(clock)).context("TLS cannot be served")?;
    for warning in &tls.current().warnings {
        tracing::warn!("{warning}");
    }
    Ok(Some(Arc::new(tls)))
}

fn open_tokens(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Option<Arc<Tokens>>> {
    if config.issuer.is_empty() {
        return Ok(None);
    }
    let settings = config.issuer.iter().map(|(name, issuer)| {
        issuer
            .settings(name)
            .map_err(|(key, message)| anyhow::anyhow!("`issuer.{name}.{key}`: {message}"))
    });
    let settings = settings.collect::<anyhow::Result<Vec<_>>>()?;
    let fetcher = KeyFetcher::new(Arc::clone(clock));
    let tokens = Tokens::new(settings, fetcher).context("tokens cannot be checked")?;
    Ok(Some(Arc::new(tokens)))
}
