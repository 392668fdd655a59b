//! Counts the messages in a gRPC body, however it is cut.

/// Bytes before each message: a flag and a 32-bit length.
const PREFIX_BYTES: usize = 5;

/// How far a body has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Messages {
    count: u64,
    prefix: [u8; PREFIX_BYTES],
    prefix_read: usize,
    rest: u64,
}

impl Messages {
    /// Reads on.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len() as u64);
                self.rest -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            let taken = (PREFIX_BYTES - self.prefix_read).min(bytes.len());
            self.prefix[self.prefix_read..self.prefix_read + taken].copy_from_slice(&bytes[..taken]);
            self.prefix_read += taken;
            bytes = &bytes[taken..];
            if self.prefix_read == PREFIX_BYTES {
                let [_, a, b, c, d] = self.prefix;
                self.rest = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.prefix_read = 0;
                self.count += 1;
            }
        }
    }

    /// Messages that have begun.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 1], b"z"].concat();
        for size in 1..=body.len() {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|chunk| messages.add(chunk));
            assert_eq!(messages.count(), 3, "cut at {size}");
        }
    }
}
