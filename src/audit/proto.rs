//! The types generated from `proto/countersign/record/v1`.

#[expect(clippy::pedantic, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/countersign.record.v1.rs"));
}

pub use generated::*;
