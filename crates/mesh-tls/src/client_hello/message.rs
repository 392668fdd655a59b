//! The fields of a ClientHello message (RFC 8446, section 4.1.2) that decide what a connection is.

use super::{ClientHello, Fault};

/// `ExtensionType.server_name` (RFC 6066).
const SERVER_NAME: u16 = 0;
/// `ExtensionType.application_layer_protocol_negotiation` (RFC 7301).
const ALPN: u16 = 16;
/// `ExtensionType.supported_versions`.
const SUPPORTED_VERSIONS: u16 = 43;
/// The value of TLS 1.3 in `supported_versions`.
const TLS13: u16 = 0x0304;
/// The most extensions looked at. All registered ones together are fewer.
const EXTENSIONS_MAX: usize = 128;
/// The longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Parses the message's body (without the four bytes of its header).
pub(super) fn parse(body: &[u8]) -> Result<ClientHello, Fault> {
    let mut hello = ClientHello { sni: None, alpn: Vec::new(), tls13: false };
    let mut rest = Cursor(body);
    rest.take(2 + 32)?; // legacy_version, random
    rest.vector8()?; // legacy_session_id
    rest.vector16()?; // cipher_suites
    rest.vector8()?; // legacy_compression_methods
    if rest.0.is_empty() {
        return Ok(hello); // extensions are optional before TLS 1.3
    }
    let mut extensions = rest.vector16()?;
    if !rest.0.is_empty() {
        return Err(Fault::Message);
    }
    let mut seen = Vec::with_capacity(32);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        if seen.contains(&kind) {
            return Err(Fault::DuplicateExtension);
        }
        if seen.len() == EXTENSIONS_MAX {
            return Err(Fault::Message);
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.sni = server_name(data)?,
            ALPN => hello.alpn = protocols(data)?,
            SUPPORTED_VERSIONS => hello.tls13 = has_tls13(data)?,
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(mut data: Cursor<'_>) -> Result<Option<String>, Fault> {
    let mut names = data.vector16()?;
    let mut host = None;
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        // One name of type host_name; RFC 6066 forbids a second.
        if kind == 0 && host.replace(name.0).is_some() {
            return Err(Fault::Message);
        }
    }
    Ok(host.and_then(printable_host))
}

fn printable_host(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let printable = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:".contains(byte);
    if name.is_empty() || name.len() > HOST_BYTES_MAX || !name.iter().all(printable) {
        return None;
    }
    Some(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

fn protocols(mut data: Cursor<'_>) -> Result<Vec<Vec<u8>>, Fault> {
    let mut list = data.vector16()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8()?;
        if protocol.0.is_empty() {
            return Err(Fault::Message);
        }
        protocols.push(protocol.0.to_vec());
    }
    Ok(protocols)
}

fn has_tls13(mut data: Cursor<'_>) -> Result<bool, Fault> {
    let mut versions = data.vector8()?;
    let mut found = false;
    while !versions.0.is_empty() {
        found |= versions.u16()? == TLS13;
    }
    Ok(found)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Message)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with a length of one byte.
    fn vector8(&mut self) -> Result<Cursor<'a>, Fault> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length).map(Cursor)
    }

    /// A vector with a length of two bytes.
    fn vector16(&mut self) -> Result<Cursor<'a>, Fault> {
        let length = usize::from(self.u16()?);
        self.take(length).map(Cursor)
    }
}
