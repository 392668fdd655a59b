//! The content of a transfer: one block of noise, repeated. The block's length is a prime, so that no lost or
//! doubled buffer of a usual size leaves the rest in place.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::{Deserialize, Serialize};

use crate::reply::BodyError;

/// Bytes of the repeated block: the largest prime below 1 MiB.
const BLOCK: usize = 1_048_573;
/// Bytes handed out at once.
const CHUNK: usize = 64 * 1024;

fn block() -> &'static Bytes {
    static BLOCK_OF_NOISE: OnceLock<Bytes> = OnceLock::new();
    BLOCK_OF_NOISE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64; // any odd start; both sides use the same
        let mut noise = Vec::with_capacity(BLOCK + 8);
        while noise.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        noise.truncate(BLOCK);
        noise.into()
    })
}

/// The content from `offset` on, as much as lies together, at most `length` bytes.
fn at(offset: u64, length: u64) -> Bytes {
    let begin = (offset % BLOCK as u64) as usize;
    let end = (begin + CHUNK).min(BLOCK).min(begin.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
    block().slice(begin..end)
}

/// The content of a transfer of a given length, piece by piece; also the body of an HTTP message.
#[derive(Debug)]
pub(super) struct Content {
    offset: u64,
    length: u64,
    sum: Sum,
}

impl Content {
    pub(super) fn new(length: u64) -> Content {
        Content { offset: 0, length, sum: Sum::default() }
    }

    /// The next piece; none at the end.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let piece = at(self.offset, self.length - self.offset);
        self.offset += piece.len() as u64;
        self.sum.add(&piece);
        (!piece.is_empty()).then_some(piece)
    }

    /// The checksum of what was handed out.
    pub(super) fn checksum(&self) -> String {
        self.sum.hex()
    }
}

/// A body of known content, with or without saying its length beforehand.
pub(super) struct ContentBody {
    pub(super) content: Content,
    pub(super) says_length: bool,
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.content.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.content.length - self.content.offset;
        if self.says_length { SizeHint::with_exact(left) } else { SizeHint::default() }
    }
}

/// Compares what arrives with the content.
#[derive(Debug, Default)]
pub(super) struct Check {
    bytes: u64,
    sum: Sum,
    first_wrong: Option<u64>,
}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) bytes: u64,
    pub(super) checksum: String,
    /// Where the first byte that should have been another stands.
    pub(super) first_wrong: Option<u64>,
}

impl Check {
    pub(super) fn add(&mut self, mut got: &[u8]) {
        self.sum.add(got);
        while !got.is_empty() {
            let expected = at(self.bytes, got.len() as u64);
            let (piece, rest) = got.split_at(expected.len());
            if self.first_wrong.is_none() && piece != expected {
                let place = piece.iter().zip(&expected).position(|(got, expected)| got != expected);
                self.first_wrong = place.map(|place| self.bytes + place as u64);
            }
            self.bytes += piece.len() as u64;
            got = rest;
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict { bytes: self.bytes, checksum: self.sum.hex(), first_wrong: self.first_wrong }
    }
}

/// A checksum that is cheap without optimisation: FNV-1a over words of eight bytes. It finds accidents, not attacks.
#[derive(Debug)]
struct Sum {
    state: u64,
    word: [u8; 8],
    filled: usize,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum { state: 0xcbf2_9ce4_8422_2325, word: [0; 8], filled: 0 }
    }
}

impl Sum {
    fn add(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 {
            let (piece, rest) = bytes.split_at(bytes.len().min(8 - self.filled));
            self.word[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
            bytes = rest;
            if self.filled < 8 {
                return;
            }
            self.state = mixed(self.state, self.word);
            self.filled = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        self.state = words.iter().fold(self.state, |state, word| mixed(state, *word));
        self.word[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn hex(&self) -> String {
        let mut last = [0; 8];
        last[..self.filled].copy_from_slice(&self.word[..self.filled]);
        format!("{:016x}", mixed(self.state, last) ^ self.filled as u64)
    }
}

fn mixed(state: u64, word: [u8; 8]) -> u64 {
    (state ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3)
}
