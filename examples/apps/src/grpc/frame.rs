//! Messages on the wire: five bytes of prefix (compressed or not, length), then the protobuf `Message { text = 1 }`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Bytes of a message; gRPC's usual limit.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the prefix.
const PREFIX: usize = 5;
/// The tag of field 1 with a length.
const TEXT_TAG: u8 = 0x0a;

/// A message with its prefix.
pub(super) fn encode(text: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !text.is_empty() {
        message.put_u8(TEXT_TAG);
        put_varint(&mut message, text.len());
        message.put_slice(text.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("messages made here are short"));
    framed.put(message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// The text of a message; fields other than `text` are skipped if they are length-delimited, else it is an error.
pub(super) fn decode(mut message: &[u8]) -> Result<String, &'static str> {
    let mut text = String::new();
    while message.has_remaining() {
        let tag = varint(&mut message).ok_or("a tag breaks off")?;
        if tag & 7 != 2 {
            return Err("a field that is not length-delimited");
        }
        let length = varint(&mut message).ok_or("a length breaks off")?;
        let (value, rest) =
            usize::try_from(length).ok().and_then(|n| message.split_at_checked(n)).ok_or("too short")?;
        if tag >> 3 == 1 {
            text = std::str::from_utf8(value).map_err(|_| "text is not UTF-8")?.to_owned();
        }
        message = rest;
    }
    Ok(text)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes messages out of bytes as they arrive.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: BytesMut,
}

impl Decoder {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// The next whole message's text; none when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<String>, &'static str> {
        let Some((prefix, _)) = self.bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if prefix[0] != 0 {
            return Err("compressed messages are not taken");
        }
        if length > MESSAGE_MAX {
            return Err("the message is too long");
        }
        if self.bytes.len() < PREFIX + length {
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        decode(&self.bytes.split_to(length)).map(Some)
    }

    /// Whether bytes of an unfinished message are left.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Reads messages from a body.
pub(super) struct Messages {
    body: Incoming,
    decoder: Decoder,
    /// The trailers, once the body has ended with some.
    pub(super) trailers: http::HeaderMap,
}

/// Why no message came.
#[derive(Debug)]
pub(super) enum Broken {
    /// The stream was reset or the connection ended.
    Stream(hyper::Error),
    /// What came is no message.
    Message(&'static str),
}

impl Messages {
    pub(super) fn of(body: Incoming) -> Messages {
        Messages { body, decoder: Decoder::default(), trailers: http::HeaderMap::new() }
    }

    /// The next message; none at the end of the body.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Broken> {
        loop {
            if let Some(text) = self.decoder.next().map_err(Broken::Message)? {
                return Ok(Some(text));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.decoder.push(&data),
                    Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
                },
                Some(Err(error)) => return Err(Broken::Stream(error)),
                None if self.decoder.is_empty() => return Ok(None),
                None => return Err(Broken::Message("the last message breaks off")),
            }
        }
    }
}
