//! Certificates: whose they are and how long they last. The key is not in reach of this file's types, so that no change
//! to them can show it: only DER of certificates is read.

use std::time::SystemTime;

use mesh_tls::{Credentials, leaf};
use serde::Serialize;

use super::common::moment;

/// This process's certificate and the roots that it trusts.
#[derive(Serialize)]
pub(in crate::admin) struct Secrets {
    /// `null` until the first was issued.
    certificate: Option<Own>,
    /// What peers' certificates must lead to.
    roots: Vec<Certificate>,
}

/// The workload's own.
#[derive(Serialize)]
struct Own {
    /// SPIFFE id.
    identity: String,
    /// Whether it is valid now.
    valid: bool,
    /// The leaf, and what stands between it and a root.
    chain: Vec<Certificate>,
}

/// One certificate. What cannot be read of it is `null`.
#[derive(Serialize)]
struct Certificate {
    subject: Option<String>,
    /// Lower-case hexadecimal.
    serial: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    /// Negative once it has ended.
    seconds_left: Option<i64>,
}

/// What there is now.
pub(in crate::admin) fn of(credentials: &Credentials, now: SystemTime) -> Secrets {
    let certificate = |der: &[u8]| {
        let validity = leaf::validity(der).ok();
        Certificate {
            subject: leaf::subject(der).ok(),
            serial: leaf::serial_number(der).ok(),
            not_before: validity.map(|(not_before, _)| moment(not_before)),
            not_after: validity.map(|(_, not_after)| moment(not_after)),
            seconds_left: validity.map(|(_, not_after)| seconds_left(not_after, now)),
        }
    };
    Secrets {
        certificate: credentials.certificate().map(|own| Own {
            identity: own.identity().to_string(),
            valid: own.is_valid_at(now),
            chain: own.chain().iter().map(|der| certificate(der)).collect(),
        }),
        roots: credentials.bundle().certificates().iter().map(|der| certificate(der)).collect(),
    }
}

/// Seconds until a moment; negative once it has passed.
pub(in crate::admin) fn seconds_left(end: SystemTime, now: SystemTime) -> i64 {
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    end.duration_since(now).map_or_else(|passed| -whole(passed.duration().as_secs()), |left| whole(left.as_secs()))
}
