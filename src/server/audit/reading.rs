//! Records who read the audit log, before they are answered.

use std::fmt;
use std::sync::Arc;

use crate::approval::Person;
use crate::audit::control_record::reader;
use crate::audit::proto::{LogRead, record};
use crate::usecase::audit_reading::{NotNoted, ReadLog};
use crate::usecase::ports::PortFuture;

use super::control::Control;

/// Records reading in the control log.
pub(super) struct ReadNotes(pub(super) Arc<Control>);

impl fmt::Debug for ReadNotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadNotes")
    }
}

impl ReadLog for ReadNotes {
    fn note<'a>(
        &'a self,
        person: &'a Person,
        filter: &'a str,
        records: u64,
    ) -> PortFuture<'a, Result<(), NotNoted>> {
        let read = LogRead {
            reader: Some(reader(person)),
            filter: filter.to_owned(),
            records,
        };
        Box::pin(async move {
            let noted = self.0.note(record::What::LogRead(read)).await;
            noted.map_err(|error| NotNoted(error.to_string()))
        })
    }
}
