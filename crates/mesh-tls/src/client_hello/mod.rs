//! Reading a TLS ClientHello without terminating TLS.
//!
//! A port in PERMISSIVE mode must tell the mesh's own mutual TLS, which it terminates, from an application's TLS,
//! which passes unread; only what the client *offers* tells them apart. So the first bytes of a connection are
//! collected in a buffer, handed to [`read`] after each arrival, and later replayed to whoever gets the connection.
//!
//! Nothing here waits or owns a socket. The bytes come from strangers: every length is checked, nothing is allocated
//! before the message is complete, and a message that is larger than [`CLIENT_HELLO_BYTES_MAX`] is refused. With a
//! post-quantum key share a hello spans two TCP segments, and a client may cut it into any number of TLS records.

mod message;
#[cfg(test)]
mod tests;

use crate::alpn;

/// The most bytes, record headers included, that a ClientHello may take. Browsers with hybrid key shares send less
/// than 2 KiB, hellos that carry large session tickets stay below 8 KiB.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a TLS record's header: type, version, length (RFC 8446, section 5.1).
const RECORD_HEADER_BYTES: usize = 5;
/// The largest payload of a plaintext record (RFC 8446, section 5.1).
const RECORD_PAYLOAD_BYTES_MAX: usize = 1 << 14;
/// `ContentType.handshake`.
const HANDSHAKE_RECORD: u8 = 22;
/// `HandshakeType.client_hello`.
const CLIENT_HELLO_MESSAGE: u8 = 1;
/// Bytes of a handshake message's header: type and 24-bit length.
const MESSAGE_HEADER_BYTES: usize = 4;

/// What the first bytes of a connection are, as far as they have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// These bytes cannot be the beginning of a TLS connection.
    NotTls,
    /// It may be, or is, a ClientHello, but it is not complete. Reading again makes sense only once the buffer holds
    /// at least this many bytes in all (never more than [`CLIENT_HELLO_BYTES_MAX`]).
    Incomplete {
        /// Length that the buffer must reach before [`read`] can say more.
        bytes_wanted: usize,
    },
    /// It begins as TLS and then breaks the rules; no TLS server would accept it.
    Broken(Fault),
    /// A whole ClientHello.
    Hello(ClientHello),
}

/// Why bytes that began as TLS are not a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More than [`CLIENT_HELLO_BYTES_MAX`].
    #[error("the ClientHello is larger than {CLIENT_HELLO_BYTES_MAX} bytes")]
    TooLarge,
    /// A record that is empty, oversized, or of another kind in the midst of the message.
    #[error("a TLS record within the ClientHello is malformed")]
    Record,
    /// Lengths inside the message do not add up.
    #[error("the ClientHello is malformed")]
    Message,
    /// The same extension twice (RFC 8446, section 4.2 forbids it), so that two readers could see two different names.
    #[error("the ClientHello carries an extension twice")]
    DuplicateExtension,
}

/// What a client asks for before any encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The name in `server_name`, lower case, without a trailing dot. `None` where absent or not printable as a host
    /// name (letters, digits, `-`, `.`, `_`, `:`), so that it can be logged and compared as it is.
    pub sni: Option<String>,
    /// The protocols offered in `application_layer_protocol_negotiation`, in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// Whether `supported_versions` has TLS 1.3, the only version the mesh speaks.
    pub tls13: bool,
}

impl ClientHello {
    /// Whether the client offers this protocol.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.alpn.iter().any(|offered| offered == protocol)
    }

    /// Whether this is a proxy of a mesh (ours or Istio's) that wants mutual TLS, told by [`alpn::is_mesh`].
    pub fn is_mesh(&self) -> bool {
        self.alpn.iter().any(|offered| alpn::is_mesh(offered))
    }
}

/// Reads the first bytes of a connection. Pure: give all bytes from the first one on, each time.
///
/// Work is proportional to the number of records until the message is complete, so that a client that sends single
/// bytes cannot make it expensive as long as the caller honours `bytes_wanted`.
pub fn read(bytes: &[u8]) -> Reading {
    if !may_begin_tls(bytes) {
        return Reading::NotTls;
    }
    match collect_message(bytes) {
        Ok(body) => message::parse(&body).map_or_else(Reading::Broken, Reading::Hello),
        Err(other) => other,
    }
}

/// Whether these bytes, possibly fewer than a record header, can begin a handshake record with a ClientHello.
fn may_begin_tls(bytes: &[u8]) -> bool {
    let expected: [fn(u8) -> bool; 6] = [
        |kind| kind == HANDSHAKE_RECORD,
        |major| major == 3,
        // SSL 3.0 to TLS 1.3; a ClientHello's record says 1 (TLS 1.0) or 3 in practice.
        |minor| minor <= 4,
        |length_high| length_high <= (RECORD_PAYLOAD_BYTES_MAX >> 8) as u8,
        |_| true,
        |message| message == CLIENT_HELLO_MESSAGE,
    ];
    bytes.iter().zip(expected).all(|(byte, holds)| holds(*byte))
}

/// Joins the message's fragments, or says why that is not possible (yet).
fn collect_message(bytes: &[u8]) -> Result<Vec<u8>, Reading> {
    let message_bytes = scan_records(bytes)?;
    let mut message = Vec::with_capacity(message_bytes);
    let mut rest = bytes;
    while message.len() < message_bytes {
        let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() else {
            return Err(Reading::Broken(Fault::Record));
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let Some((fragment, after)) = after.split_at_checked(length) else {
            return Err(Reading::Broken(Fault::Record));
        };
        // Whatever follows the hello within its last record is not ours to judge.
        let wanted = (message_bytes - message.len()).min(fragment.len());
        message.extend_from_slice(&fragment[..wanted]);
        rest = after;
    }
    Ok(message.split_off(MESSAGE_HEADER_BYTES))
}

/// Walks over the record headers. Gives the length of the whole handshake message, header included, once all of its
/// bytes are there.
fn scan_records(bytes: &[u8]) -> Result<usize, Reading> {
    let mut header = [0u8; MESSAGE_HEADER_BYTES];
    let mut collected = 0usize;
    let mut offset = 0usize;
    loop {
        let Some(record) = bytes.get(offset..offset + RECORD_HEADER_BYTES) else {
            return Err(incomplete(offset + RECORD_HEADER_BYTES + 1));
        };
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        if record[0] != HANDSHAKE_RECORD || record[1] != 3 || length == 0 || length > RECORD_PAYLOAD_BYTES_MAX {
            return Err(Reading::Broken(Fault::Record));
        }
        let start = offset + RECORD_HEADER_BYTES;
        let end = start + length;
        let present = &bytes[start.min(bytes.len())..end.min(bytes.len())];
        for byte in present.iter().take(MESSAGE_HEADER_BYTES.saturating_sub(collected)).enumerate() {
            header[collected + byte.0] = *byte.1;
        }
        if collected + present.len() >= MESSAGE_HEADER_BYTES {
            let total = MESSAGE_HEADER_BYTES + u24(header);
            if total > CLIENT_HELLO_BYTES_MAX {
                return Err(Reading::Broken(Fault::TooLarge));
            }
            if collected + present.len() >= total {
                return Ok(total);
            }
        }
        if bytes.len() < end {
            return Err(incomplete(end));
        }
        collected += length;
        offset = end;
    }
}

fn u24(header: [u8; MESSAGE_HEADER_BYTES]) -> usize {
    usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3])
}

fn incomplete(bytes_wanted: usize) -> Reading {
    if bytes_wanted > CLIENT_HELLO_BYTES_MAX {
        return Reading::Broken(Fault::TooLarge);
    }
    Reading::Incomplete { bytes_wanted }
}
