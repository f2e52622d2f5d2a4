//! Tells who listens that an approval changed: in this process at once, in others by NOTIFY.
//!
//! NOTIFY takes a lock of the whole database at its commit, so a vote never carries one: changes are gathered and sent a few times a
//! second. All of it is a hint: what is lost while a connection is down stays lost.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};

use crate::approval::ApprovalId;

use super::tls::Transport;

/// How many changes a slow listener may fall behind before it misses some, and how many may wait to be sent.
const BACKLOG: usize = 4096;

/// At most ten times a second.
const GATHER_FOR: Duration = Duration::from_millis(100);

/// A payload must be shorter than 8000 bytes.
const PAYLOAD_BYTES: usize = 7_500;

const LISTEN: &str = "LISTEN countersign_approvals";
const NOTIFY: &str =
    "SELECT pg_notify('countersign_approvals', payload) FROM unnest($1::text[]) AS payload";

/// How long to wait before connecting again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where changes go.
#[derive(Debug)]
pub(super) struct Changes {
    heard: broadcast::Sender<ApprovalId>,
    outgoing: mpsc::Sender<ApprovalId>,
}

impl Changes {
    /// The place for changes, and what must be sent to other processes.
    pub(super) fn new() -> (Self, mpsc::Receiver<ApprovalId>) {
        let (heard, _) = broadcast::channel(BACKLOG);
        let (outgoing, gathered) = mpsc::channel(BACKLOG);
        (Self { heard, outgoing }, gathered)
    }

    /// Hears what changes from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<ApprovalId> {
        self.heard.subscribe()
    }

    /// Where a listener puts what it hears, as long as the store is there.
    pub(super) fn weak(&self) -> broadcast::WeakSender<ApprovalId> {
        self.heard.downgrade()
    }

    /// Says that this process changed `id`.
    pub(super) fn announce(&self, id: ApprovalId) {
        // A full queue loses a hint, and a channel without listeners has nobody to tell.
        let _sent = self.outgoing.try_send(id.clone());
        let _heard = self.heard.send(id);
    }
}

/// Sends what this process, `origin`, changed to the others, until nobody can add to it any more.
pub(super) async fn notify(origin: String, pool: Pool, mut gathered: mpsc::Receiver<ApprovalId>) {
    while let Some(first) = gathered.recv().await {
        sleep(GATHER_FOR).await;
        let mut ids = BTreeSet::from([first]);
        while let Ok(id) = gathered.try_recv() {
            ids.insert(id);
        }
        if let Err(error) = send(&pool, payloads(&origin, &ids)).await {
            tracing::warn!(error, "other processes were not told of changed approvals");
        }
    }
}

async fn send(pool: &Pool, payloads: Vec<String>) -> Result<(), String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let sent = client.execute(NOTIFY, &[&payloads]).await;
    sent.map(drop).map_err(|error| error.to_string())
}

/// Messages that name `ids`: the origin and ids, a line each. An id that spans lines or fills a message is not announced.
fn payloads(origin: &str, ids: &BTreeSet<ApprovalId>) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut payload = origin.to_owned();
    for id in ids.iter().map(ApprovalId::as_str) {
        if id.contains(['\n', '\0']) || id.len() > 1_024 {
            continue;
        }
        if payload.len().saturating_add(id.len()) >= PAYLOAD_BYTES {
            payloads.push(std::mem::replace(&mut payload, origin.to_owned()));
        }
        payload.push('\n');
        payload.push_str(id);
    }
    payloads.push(payload);
    payloads
}

/// Listens to other processes.
pub(super) struct Listener {
    /// This process, whose own messages are not heard twice.
    pub(super) origin: String,
    pub(super) driver: tokio_postgres::Config,
    pub(super) transport: Transport,
    pub(super) heard: broadcast::WeakSender<ApprovalId>,
}

impl Listener {
    /// Listens until the store is gone. `listening` is told once it works.
    pub(super) async fn run(self, listening: oneshot::Sender<()>) {
        let mut listening = Some(listening);
        let mut pause = FIRST_PAUSE;
        while self.heard.upgrade().is_some() {
            let ended = self.listen_once(&mut listening, &mut pause).await;
            if let Err(error) = ended {
                tracing::warn!(%error, "changes by other processes are not heard until the database is reached again");
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    async fn listen_once(
        &self,
        listening: &mut Option<oneshot::Sender<()>>,
        pause: &mut Duration,
    ) -> Result<(), tokio_postgres::Error> {
        match &self.transport {
            Transport::Plain => {
                let (client, connection) = self.driver.connect(NoTls).await?;
                self.pump(client, connection, listening, pause).await
            }
            Transport::Encrypted(connect) => {
                let (client, connection) = self.driver.connect(connect.clone()).await?;
                self.pump(client, connection, listening, pause).await
            }
        }
    }

    /// Hears messages until the connection ends.
    async fn pump<S, T>(
        &self,
        client: Client,
        mut connection: Connection<S, T>,
        listening: &mut Option<oneshot::Sender<()>>,
        pause: &mut Duration,
    ) -> Result<(), tokio_postgres::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let hear = async {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(told) = message? {
                    self.hear(told.payload());
                }
            }
            Ok(())
        };
        let listen = async {
            client.batch_execute(LISTEN).await?;
            *pause = FIRST_PAUSE;
            if let Some(listening) = listening.take() {
                // Nobody may be waiting for it any more.
                let _told = listening.send(());
            }
            // The client is kept: without it the connection ends.
            std::future::pending().await
        };
        tokio::select! {
            ended = hear => ended,
            failed = listen => failed,
        }
    }

    fn hear(&self, payload: &str) {
        let mut lines = payload.lines();
        if lines.next() == Some(self.origin.as_str()) {
            return;
        }
        let Some(heard) = self.heard.upgrade() else {
            return;
        };
        for id in lines {
            // A channel without listeners has nobody to tell.
            let _heard = heard.send(ApprovalId::new(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_make_messages_of_bounded_size() {
        let name = |number: usize| ApprovalId::new(format!("{number:0>36}"));
        let ids: BTreeSet<ApprovalId> = (0..1_000).map(name).collect();
        let sent = payloads("origin", &ids);
        assert!(sent.iter().all(|payload| payload.len() < 8_000));
        let named: BTreeSet<ApprovalId> = sent
            .iter()
            .flat_map(|payload| payload.lines().skip(1))
            .map(ApprovalId::new)
            .collect();
        assert_eq!(named, ids);
    }
}
