//! The ClientHello, read without a TLS library: its SNI and its ALPN are all that routing needs.
//!
//! It is read whole into a bounded buffer that is replayed afterwards; with a hybrid key share it spans two segments,
//! and it may span several records. This happens once per connection, so the parts are copied.

/// Bytes of records that are looked at for one ClientHello.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Longest name in an SNI (a DNS name has at most 253 characters).
const SNI_BYTES_MAX: usize = 255;
/// Protocols of an ALPN that are kept.
const ALPN_ENTRIES_MAX: usize = 32;

/// What came of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// It is not all there yet.
    NeedMore,
    /// It is none, or longer than [`HELLO_BYTES_MAX`].
    Invalid,
    /// It is all there.
    Complete(ClientHello),
}

/// What a client said that routing can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name, in lower case and without trailing dot.
    pub sni: Option<String>,
    /// The protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// ALPNs by which a mesh's proxy says that it is one.
pub const MESH_ALPN: [&[u8]; 5] = [b"mesh-streams/1", b"istio-http/1.0", b"istio-http/1.1", b"istio-h2", b"istio"];

impl ClientHello {
    /// Whether the client offers one of the mesh's protocols, so that PERMISSIVE terminates its TLS.
    /// `istio-peer-exchange` counts: Istio's sidecars offer it beside `istio`.
    #[must_use]
    pub fn offers_mesh(&self) -> bool {
        let is_mesh = |alpn: &Vec<u8>| MESH_ALPN.contains(&alpn.as_slice()) || alpn == b"istio-peer-exchange";
        self.alpn.iter().any(is_mesh)
    }
}

/// Reads a ClientHello from the first bytes of a connection (RFC 8446, sections 4.1.2 and 5.1).
#[must_use]
pub fn client_hello(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let wanted = match message.as_slice() {
            [1, a, b, c, ..] => 4 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)),
            [] | [1] | [1, _] | [1, _, _] => 4,
            _ => return Hello::Invalid,
        };
        if wanted > HELLO_BYTES_MAX {
            return Hello::Invalid;
        }
        if message.len() >= wanted && wanted > 4 {
            return parse(&message[4..wanted]).map_or(Hello::Invalid, Hello::Complete);
        }
        let (header, body) = match rest {
            [22, 3, _, high, low, body @ ..] => (usize::from(*high) << 8 | usize::from(*low), body),
            [] | [22] | [22, 3] | [22, 3, _] | [22, 3, _, _] => return more(bytes),
            _ => return Hello::Invalid,
        };
        if header == 0 || header > 1 << 14 {
            return Hello::Invalid;
        }
        let Some(fragment) = body.get(..header) else { return more(bytes) };
        message.extend_from_slice(fragment);
        rest = &body[header..];
    }
}

fn more(bytes: &[u8]) -> Hello {
    // Records have headers of their own; whoever cuts a hello into records of one byte is not served.
    if bytes.len() >= HELLO_BYTES_MAX { Hello::Invalid } else { Hello::NeedMore }
}

/// The message's body, after type and length. `None`: it contradicts itself.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut input = Input(body);
    input.take(2 + 32)?;
    input.vector_u8()?;
    input.vector_u16()?;
    input.vector_u8()?;
    let mut hello = ClientHello::default();
    if input.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Input(input.vector_u16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector_u16()?;
        match kind {
            0 => hello.sni = server_name(data)?,
            16 => hello.alpn = protocols(data)?,
            _ => {}
        }
    }
    Some(hello)
}

/// The `server_name` extension (RFC 6066, section 3): the first host name.
fn server_name(data: &[u8]) -> Option<Option<String>> {
    let mut names = Input(Input(data).vector_u16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector_u16()?;
        if kind != 0 {
            continue;
        }
        let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii() && text.len() <= SNI_BYTES_MAX)?;
        let text = text.strip_suffix('.').unwrap_or(text);
        return Some((!text.is_empty()).then(|| text.to_ascii_lowercase()));
    }
    Some(None)
}

/// The `application_layer_protocol_negotiation` extension (RFC 7301, section 3.1).
fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Input(Input(data).vector_u16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector_u8()?;
        if protocols.len() < ALPN_ENTRIES_MAX {
            protocols.push(protocol.to_vec());
        }
    }
    Some(protocols)
}

/// What is left to read.
struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector_u8(&mut self) -> Option<&'b [u8]> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length)
    }

    fn vector_u16(&mut self) -> Option<&'b [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}
