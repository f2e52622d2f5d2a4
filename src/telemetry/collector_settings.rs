//! Where a collector is, and how it is trusted.

use std::fs;
use std::path::PathBuf;

use super::TelemetryError;
use super::variables::Variables;

/// The variables that say where one signal goes, or all.
struct Names {
    address: &'static str,
    protocol: &'static str,
    authority: &'static str,
    certificate: &'static str,
    key: &'static str,
}

const ALL: Names = Names {
    address: "OTEL_EXPORTER_OTLP_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_PROTOCOL",
    authority: "OTEL_EXPORTER_OTLP_CERTIFICATE",
    certificate: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    key: "OTEL_EXPORTER_OTLP_CLIENT_KEY",
};
const TRACES: Names = Names {
    address: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    authority: "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    certificate: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    key: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
};
const METRICS: Names = Names {
    address: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    authority: "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
    certificate: "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
    key: "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
};

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CollectorSettings {
    /// The collector's address, if there is one.
    pub(super) address: Option<String>,
    /// Who vouches for its certificate; none if those that the system trusts.
    pub(super) authority: Option<NamedFile>,
    /// What this server shows to it: its certificate and the key to it.
    pub(super) identity: Option<(NamedFile, NamedFile)>,
}

impl CollectorSettings {
    /// Where traces go.
    pub(super) fn of_traces(variables: Variables<'_>) -> Result<Self, TelemetryError> {
        Ok(Self::of(variables, &TRACES)?.or(Self::of(variables, &ALL)?))
    }

    /// Where metrics go.
    pub(super) fn of_metrics(variables: Variables<'_>) -> Result<Self, TelemetryError> {
        Ok(Self::of(variables, &METRICS)?.or(Self::of(variables, &ALL)?))
    }

    fn of(variables: Variables<'_>, names: &Names) -> Result<Self, TelemetryError> {
        variables.parse(names.protocol, protocol, "`grpc`, the only one")?;
        Ok(Self {
            address: address_in(variables, names.address)?,
            authority: NamedFile::of(variables, names.authority),
            identity: identity(variables, names)?,
        })
    }

    /// What a signal does not say for itself is what all say.
    fn or(self, all: Self) -> Self {
        Self {
            address: self.address.or(all.address),
            authority: self.authority.or(all.authority),
            identity: self.identity.or(all.identity),
        }
    }
}

/// A file, and the variable that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFile {
    variable: &'static str,
    path: PathBuf,
}

impl NamedFile {
    fn of(variables: Variables<'_>, variable: &'static str) -> Option<Self> {
        let path = PathBuf::from(variables.text(variable)?);
        Some(Self { variable, path })
    }

    /// What is in it.
    pub(super) fn read(&self) -> Result<Vec<u8>, TelemetryError> {
        fs::read(&self.path).map_err(|source| TelemetryError::Unreadable {
            variable: self.variable,
            path: self.path.clone(),
            source,
        })
    }
}

fn protocol(text: &str) -> Option<()> {
    (text == "grpc").then_some(())
}

fn address_in(
    variables: Variables<'_>,
    variable: &'static str,
) -> Result<Option<String>, TelemetryError> {
    // Whatever stands before an `@` could be a password, also where the rest is no address.
    if variables
        .text(variable)
        .is_some_and(|text| text.contains('@'))
    {
        return Err(TelemetryError::CredentialsInAddress { variable });
    }
    variables.parse(
        variable,
        address,
        "an address such as `http://collector:4317`",
    )
}

fn address(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let is_address = matches!(url.scheme(), "http" | "https") && url.has_host();
    is_address.then(|| text.to_owned())
}

fn identity(
    variables: Variables<'_>,
    names: &Names,
) -> Result<Option<(NamedFile, NamedFile)>, TelemetryError> {
    let missing = |variable, missing| TelemetryError::Half { variable, missing };
    let certificate = NamedFile::of(variables, names.certificate);
    match (certificate, NamedFile::of(variables, names.key)) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (Some(_), None) => Err(missing(names.certificate, names.key)),
        (None, Some(_)) => Err(missing(names.key, names.certificate)),
        (None, None) => Ok(None),
    }
}
