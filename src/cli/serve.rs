//! `countersign serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::config::{Config, StoreChoice};
use crate::model::{Posture, ValidationMode};
use crate::server::{
    Parts, SampleSet, Server, Surroundings, SystemClock, check_identities, load_problems,
    start_background,
};
use crate::telemetry::{self, LogFormat, OtelEnvironment, Telemetry, TelemetrySettings};
use crate::usecase::observing::Metrics;
use crate::usecase::ports::PolicySource;

use super::Outcome;
use super::output::{BOLD, DIM, RESET, YELLOW, print, say};
use super::report::{counted, render};

/// How long what runs beside the calls may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Development: the sample policies if there is no policy directory here, on loopback only.
    #[arg(long)]
    dev: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration, and exit with 0 if it is right.
    #[arg(long)]
    check_config: bool,
    /// The policy directory.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// An address to listen on, port 0 for any free one; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// A unix socket to listen on as well.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// How many threads serve; 0 for one on each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How policies are checked against the schema: strict, warn or off.
    #[arg(long, value_name = "MODE")]
    validation: Option<ValidationMode>,
    /// What becomes of policies that cannot be evaluated and of missing entities: strict, or cedar (for conformance and migration).
    #[arg(long, value_name = "POSTURE")]
    posture: Option<Posture>,
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(arguments: &ServeArguments) -> anyhow::Result<Outcome> {
    let config = configure(arguments)?;
    if arguments.check_config {
        OtelEnvironment::of(&environment())?;
        check_identities(&config)?;
        print(config.to_toml()?.trim_end());
        return Ok(Outcome::Success);
    }
    telemetry::start(&config.log.filter, log_format(&config))?;
    let background = start_background()?;
    let runtime = Arc::clone(&background);
    let telemetry = start_telemetry(&config, background.handle())?;
    let surroundings = Surroundings {
        background,
        observer: telemetry.observer(),
        metrics: telemetry
            .is_scraped()
            .then(|| Arc::clone(&telemetry) as Arc<dyn Metrics>),
    };
    let parts = Parts::within(surroundings, &config, source(arguments, &config))?;
    parts.reloader.reload();
    let problems = load_problems(&parts);
    for problem in problems.iter().take(20) {
        say(&format!("{}\n", render(problem)));
    }
    let server = Server::start(&config, parts)?;
    telemetry.watch(server.vitals());
    // Whoever starts it may stop it as soon as it has said that it is ready.
    let signals = server.signals().context("signals cannot be received")?;
    announce(arguments, &config, &server)?;
    let cut_off = server.run(signals);
    // Behind the last call, and while there is a runtime that can still send.
    telemetry.stop();
    drop(telemetry);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown_timeout(LAST_WORDS);
    }
    if cut_off > 0 {
        tracing::warn!(
            connections = cut_off,
            "connections were cut off at the drain timeout"
        );
    }
    Ok(Outcome::Success)
}

fn start_telemetry(config: &Config, background: &Handle) -> anyhow::Result<Arc<Telemetry>> {
    let variables = environment();
    let otel = OtelEnvironment::of(&variables)?;
    let settings = TelemetrySettings {
        sample_ratio: config.telemetry.sample_ratio,
        ..TelemetrySettings::new(instance())
    };
    let telemetry = Telemetry::start(&settings, &otel, Arc::new(SystemClock), background)?;
    Ok(Arc::new(telemetry))
}

/// Flags above variables above the file.
fn configure(arguments: &ServeArguments) -> anyhow::Result<Config> {
    let mut config = Config::load(arguments.config.as_deref(), &environment())?;
    if let Some(dir) = &arguments.policies {
        config.policy.dir.clone_from(dir);
    }
    if !arguments.listen.is_empty() {
        config.server.listen.clone_from(&arguments.listen);
    }
    if let Some(path) = &arguments.unix {
        config.server.unix = Some(path.clone());
    }
    if let Some(threads) = arguments.threads {
        config.server.threads = threads;
    }
    if let Some(validation) = arguments.validation {
        config.policy.validation = validation.to_string();
    }
    if let Some(posture) = arguments.posture {
        config.policy.posture = posture.to_string();
    }
    if arguments.dev
        && let Some(address) = config
            .server
            .listen
            .iter()
            .find(|address| !address.ip().is_loopback())
    {
        anyhow::bail!("`--dev` listens on loopback only, and `{address}` is not");
    }
    if arguments.dev {
        config.identity.development_logins = true;
        config.identity.unauthenticated_callers = true;
        if config.audit.readers.is_empty() {
            config.audit.readers.push("*".to_owned());
        }
    }
    config.check()?;
    config.check_callers()?;
    Ok(config)
}

/// Tells this run of the server from all others, where metrics and spans are gathered.
fn instance() -> String {
    Uuid::from_u128(fastrand::u128(..)).to_string()
}

/// The configuration was checked, so what is not JSON is text.
fn log_format(config: &Config) -> LogFormat {
    if config.log.format == "json" {
        LogFormat::Json
    } else {
        LogFormat::Text
    }
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The sample policies, if this is development and there is no policy directory.
fn source(arguments: &ServeArguments, config: &Config) -> Option<Arc<dyn PolicySource>> {
    let is_given = arguments.policies.is_some() || config.policy.dir.is_dir();
    (arguments.dev && !is_given).then(|| Arc::new(SampleSet) as Arc<dyn PolicySource>)
}

fn announce(arguments: &ServeArguments, config: &Config, server: &Server) -> anyhow::Result<()> {
    let addresses = server.addresses();
    let active = server.parts().reloader.active().load_full();
    let version = active
        .as_ref()
        .map(|active| active.snapshot.version().as_str().to_owned());
    print(&serde_json::to_string(&json!({
        "listening": addresses.tcp.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unix": addresses.unix,
        "policy_version": version,
    }))?);
    if config.policy.posture != "strict" {
        say(&format!(
            "{YELLOW}posture {}:{RESET} policies that cannot be evaluated are skipped",
            config.policy.posture
        ));
    }
    let is_reachable = addresses
        .tcp
        .iter()
        .any(|address| !address.ip().is_loopback());
    if is_reachable && config.identity.unauthenticated_callers {
        say(&format!(
            "{YELLOW}callers are not authenticated:{RESET} whoever reaches these addresses can ask, for everybody"
        ));
    }
    if is_reachable && config.tls.certificate.is_none() {
        say(&format!(
            "{YELLOW}connections are not encrypted:{RESET} set `tls.certificate`, unless something in front of this server does it"
        ));
    }
    if arguments.dev {
        introduce(config, server);
    }
    Ok(())
}

/// Says what runs here and what to try.
fn introduce(config: &Config, server: &Server) {
    let Some(address) = server.addresses().tcp.first() else {
        return;
    };
    let active = server.parts().reloader.active().load_full();
    let policies = active.as_ref().map_or_else(
        || "none are loaded, so every call is UNAVAILABLE".to_owned(),
        |active| {
            let info = active.snapshot.info();
            let from = match &server.parts().policy_dir {
                Some(dir) => format!("`{}`, read again at every change", dir.root().display()),
                None => "the sample set inside the program".to_owned(),
            };
            let version: String = info.version.as_str().chars().take(12).collect();
            let all = info.permits + info.forbids + info.gates;
            format!(
                "{} ({}), {} hold; version {version}\n             {from}",
                counted(all, "policy", "policies"),
                counted(info.gates, "gate", "gates"),
                counted(info.cases_passed, "case", "cases"),
            )
        },
    );
    let approvals = match config.approvals.store {
        StoreChoice::Sqlite => format!("kept in `{}`", config.approvals.path.display()),
        StoreChoice::Postgres => "kept in PostgreSQL".to_owned(),
        StoreChoice::None => "not kept".to_owned(),
    };
    say(&format!(
        "\n{BOLD}Countersign {}{RESET}  {YELLOW}development: loopback only, callers are not authenticated, and whoever says a name is believed{RESET}\n\
         \n  listening  {address}\n  policies   {policies}\n  posture    {}, validation {}\n  approvals  {approvals}\n",
        env!("CARGO_PKG_VERSION"),
        config.policy.posture,
        config.policy.validation,
    ));
    say(&format!(
        "{BOLD}Try, in another terminal:{RESET}\n{}",
        try_next(&address.to_string())
    ));
}

fn try_next(address: &str) -> String {
    let program = "countersign";
    let examples = [
        (
            "an AI agent starts two small machines in dev: ALLOW",
            "--principal 'Agent::\"capacity-bot\"' --action StartInstances --resource 'Environment::\"dev\"' \\\n      \
             --context '{\"instance_type\":\"t3.small\",\"count\":2,\"hourly_cost_cents\":4,\"region\":\"eu-central-1\",\"public_ip\":false}'",
        ),
        (
            "it exports personal data abroad: DENY",
            "--principal 'Agent::\"retrain-bot\"' --action ExportData --resource 'Dataset::\"customer-profiles\"' \\\n      \
             --context '{\"row_count\":1,\"destination_region\":\"us-east-1\"}'",
        ),
        (
            "it deploys to production: REQUIRE_APPROVAL",
            "--principal 'Agent::\"deploy-bot\"' --action Deploy --resource 'Service::\"payments-api\"' \\\n      \
             --context '{\"version\":\"2.5.0\",\"migration\":false,\"provenance\":{\"builder\":\"github-actions\",\"commit\":\"61d0e42\"}}' \\\n      \
             --justification 'Release 2.5.0'",
        ),
    ];
    let lines = examples.map(|(what, flags)| {
        format!(
            "  {DIM}# {what}{RESET}\n  {program} authorize --server {address} \\\n      {flags}\n"
        )
    });
    let approvals = [
        ("what waits for people", "list"),
        (
            "say yes, as somebody of the SRE team",
            "approve ID --as yuki",
        ),
    ];
    let approvals = approvals.map(|(what, words)| {
        format!("  {DIM}# {what}{RESET}\n  {program} approvals {words} --server {address}\n")
    });
    lines.concat() + &approvals.concat()
}
