//! Messages in the body of a gRPC call: a byte of flags, four of length, the message.

use bytes::{BufMut as _, Bytes, BytesMut};

const HEADER_BYTES: usize = 5;

/// Frames a message.
#[must_use]
pub fn frame(message: &[u8]) -> Option<Bytes> {
    let mut framed = BytesMut::with_capacity(HEADER_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).ok()?);
    framed.put_slice(message);
    Some(framed.freeze())
}

/// Takes messages out of a body, however its bytes are cut.
#[derive(Debug, Default)]
pub struct Unframed {
    held: BytesMut,
}

/// What a body holds that is no message of ours: compressed though nobody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed;

// === impl Unframed ===

impl Unframed {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Compressed> {
        let Some(&[flags, a, b, c, d]) = self.held.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if flags != 0 {
            return Err(Compressed);
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if self.held.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let _header = self.held.split_to(HEADER_BYTES);
        Ok(Some(self.held.split_to(length).freeze()))
    }

    /// Whether bytes are left that make no whole message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6),
            cut in 1..60_usize,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
            let (mut unframed, mut out) = (Unframed::default(), Vec::new());
            for piece in stream.chunks(cut) {
                unframed.push(piece);
                while let Some(message) = unframed.next_message().unwrap() {
                    out.push(message.to_vec());
                }
            }
            prop_assert_eq!(out, messages);
            prop_assert!(unframed.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut unframed = Unframed::default();
            unframed.push(&bytes);
            while let Ok(Some(_)) = unframed.next_message() {}
        }
    }

    #[test]
    fn what_is_compressed_is_not_read() {
        let mut unframed = Unframed::default();
        unframed.push(&[1, 0, 0, 0, 0]);
        assert_eq!(unframed.next_message(), Err(Compressed));
    }
}
