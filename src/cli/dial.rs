//! How commands reach a server: encrypted or not, and as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::grpc::client::{self, ClientTls};
use crate::identity::DevelopmentLogins;

/// How the connection is encrypted, and as whom the caller comes.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct DialArguments {
    /// Trust servers whose certificates lead to those in this file, in PEM, and no others.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_TLS_CA", global = true)]
    tls_ca: Option<PathBuf>,
    /// Show the client certificate in this file, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_TLS_CERTIFICATE",
        global = true
    )]
    tls_certificate: Option<PathBuf>,
    /// The private key of the client certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_TLS_KEY", global = true)]
    tls_key: Option<PathBuf>,
    /// Act as this person, on a server with development logins.
    #[arg(
        long = "as",
        value_name = "NAME",
        env = "COUNTERSIGN_LOGIN",
        global = true
    )]
    login: Option<String>,
    /// Act as whoever the credential in this file names.
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_TOKEN_FILE",
        global = true
    )]
    token_file: Option<PathBuf>,
}

/// A connection to a server, and the credential to send with each call.
#[derive(Clone, Debug)]
pub(super) struct Dialled {
    pub(super) channel: Channel,
    pub(super) authorization: Option<MetadataValue<Ascii>>,
}

impl Dialled {
    /// A call with the credential.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", authorization.clone());
        }
        request
    }
}

impl DialArguments {
    /// Whether somebody is named.
    pub(super) fn names_somebody(&self) -> bool {
        self.login.is_some() || self.token_file.is_some()
    }

    /// Connects to `server`.
    pub(super) async fn dial(&self, server: &str) -> anyhow::Result<Dialled> {
        let authorization = match (&self.login, &self.token_file) {
            (Some(_), Some(_)) => bail!(
                "both a login (`--as`, COUNTERSIGN_LOGIN) and a file with a credential (`--token-file`, COUNTERSIGN_TOKEN_FILE) are \
                 given: give one of them"
            ),
            (Some(name), None) => Some(bearer(&DevelopmentLogins::token(name))?),
            (None, Some(path)) => Some(bearer(&read_token(path)?)?),
            (None, None) => None,
        };
        let tls = self.tls()?;
        if self.token_file.is_some() && client::is_readable_on_the_way(server, &tls) {
            bail!(
                "a credential would be sent to `{server}` where everybody on the way can read it: write `https://` and the address"
            );
        }
        let channel = client::connect(server, &tls).await?;
        Ok(Dialled {
            channel,
            authorization,
        })
    }

    fn tls(&self) -> anyhow::Result<ClientTls> {
        let identity = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => bail!(
                "`--tls-certificate` (COUNTERSIGN_TLS_CERTIFICATE) and `--tls-key` (COUNTERSIGN_TLS_KEY) go together"
            ),
        };
        Ok(ClientTls {
            ca: self.tls_ca.as_deref().map(read).transpose()?,
            identity,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("`{}` cannot be read", path.display()))
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the credential in `{}` cannot be read", path.display()))?;
    match text.trim() {
        "" => bail!("`{}` holds no credential", path.display()),
        token => Ok(token.to_owned()),
    }
}

fn bearer(token: &str) -> anyhow::Result<MetadataValue<Ascii>> {
    // The error must not repeat the credential.
    let Ok(mut value) = MetadataValue::try_from(format!("Bearer {token}")) else {
        bail!("the credential has characters that cannot be sent");
    };
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_the_trimmed_content_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "  ey.abc\n").unwrap();
        assert_eq!(read_token(&path).unwrap(), "ey.abc");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_token(&path).is_err());
    }

    #[test]
    fn a_credential_that_cannot_be_sent_is_not_repeated() {
        let complaint = bearer("secret\n").unwrap_err();
        assert!(!format!("{complaint:#}").contains("secret"));
        assert!(bearer("secret").unwrap().is_sensitive());
    }

    #[tokio::test]
    async fn a_credential_is_not_sent_where_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "ey.abc").unwrap();
        let arguments = DialArguments {
            token_file: Some(path),
            ..DialArguments::default()
        };
        let error = arguments.dial("http://pdp.example.org:1").await;
        assert!(error.unwrap_err().to_string().contains("https://"));
    }
}
