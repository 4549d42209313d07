//! What the signer and its PKCS#11 worker say to each other: length-prefixed frames over a socket pair, several calls in flight.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

/// A frame larger than this is a fault, not a message.
const MAX_FRAME_LEN: usize = 64 * 1024;

/// What the worker is asked.
pub(crate) enum Request {
    /// Load the module and find the token. The first frame, exactly once.
    Find {
        /// Path of the module.
        module: String,
        /// Label of the token, without padding.
        token_label: String,
    },
    /// Log in once. The second frame, exactly once.
    Login(Login),
    /// Sign a digest with the key of this `CKA_ID`.
    Sign {
        /// `CKA_ID` of the private key.
        key_id: [u8; 32],
        /// The digest.
        digest: [u8; 32],
    },
    /// Find the key of this `CKA_ID`, or generate it.
    Generate {
        /// `CKA_LABEL`.
        label: String,
        /// `CKA_ID`.
        key_id: [u8; 32],
        /// Whether it may be generated; else it must be there.
        may_create: bool,
    },
    /// Open the key of this `CKA_ID` with its own authorisation data.
    Authorize {
        /// `CKA_ID`.
        key_id: [u8; 32],
        /// The data.
        data: Zeroizing<String>,
    },
    /// Tell how the members of the HA group behind the slot are.
    Members,
}

/// How to log in.
pub(crate) struct Login {
    /// Log in as the vendor's crypto user instead of the user.
    pub(crate) crypto_user: bool,
    /// Sessions to open, one thread each.
    pub(crate) sessions: u8,
    /// The PIN.
    pub(crate) pin: Zeroizing<String>,
}

/// What the worker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The token is there; nobody has logged in yet.
    Found(PinState),
    /// Logged in.
    Opened,
    /// r || s as the module returned it.
    Signature(Vec<u8>),
    /// Uncompressed public key of 65 bytes.
    PublicKey(Vec<u8>),
    /// The key is open.
    Authorized,
    /// The members of the HA group.
    Members(Vec<Member>),
    /// It did not work.
    Failed(Failure),
}

/// What a token tells of wrong PINs since the last good one. A token may also keep it to itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PinState {
    /// There was one.
    pub(crate) wrong_before: bool,
    /// One more locks it.
    pub(crate) last_try: bool,
    /// It is locked.
    pub(crate) locked: bool,
}

/// A member of an HA group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its serial number.
    pub(crate) serial: String,
    /// Its status as a return code; 0: it answers.
    pub(crate) status: u64,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The return code; 0 where the module returned none.
    pub(crate) code: u64,
    /// Whether the login failed.
    pub(crate) login: bool,
    /// Text for people.
    pub(crate) detail: String,
}

/// Appends a framed request.
pub(crate) fn encode_request(call_id: u64, request: &Request) -> Zeroizing<Vec<u8>> {
    let fields = match request {
        Request::Find { module, token_label } => module.len() + token_label.len(),
        Request::Login(login) => login.pin.len(),
        Request::Sign { .. } => 64,
        Request::Generate { label, .. } => label.len() + 32,
        Request::Authorize { data, .. } => data.len() + 32,
        Request::Members => 0,
    };
    // Large enough from the start: a vector that grows leaves a copy behind, here of a PIN.
    let mut out = Zeroizing::new(Vec::with_capacity(64 + fields));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&call_id.to_le_bytes());
    match request {
        Request::Find { module, token_label } => {
            out.push(1);
            put(&mut out, module.as_bytes());
            put(&mut out, token_label.as_bytes());
        }
        Request::Login(login) => {
            out.push(2);
            out.push(u8::from(login.crypto_user));
            out.push(login.sessions);
            put(&mut out, login.pin.as_bytes());
        }
        Request::Sign { key_id, digest } => {
            out.push(3);
            out.extend_from_slice(key_id);
            out.extend_from_slice(digest);
        }
        Request::Generate { label, key_id, may_create } => {
            out.push(4);
            put(&mut out, label.as_bytes());
            out.extend_from_slice(key_id);
            out.push(u8::from(*may_create));
        }
        Request::Authorize { key_id, data } => {
            out.push(5);
            out.extend_from_slice(key_id);
            put(&mut out, data.as_bytes());
        }
        Request::Members => out.push(6),
    }
    finish(&mut out);
    out
}

/// Appends a framed reply.
pub(crate) fn encode_reply(call_id: u64, reply: &Reply) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&call_id.to_le_bytes());
    match reply {
        Reply::Found(pin) => {
            out.push(1);
            out.extend([pin.wrong_before, pin.last_try, pin.locked].map(u8::from));
        }
        Reply::Opened => out.push(2),
        Reply::Signature(bytes) => {
            out.push(3);
            put(&mut out, bytes);
        }
        Reply::PublicKey(bytes) => {
            out.push(4);
            put(&mut out, bytes);
        }
        Reply::Authorized => out.push(5),
        Reply::Members(members) => {
            out.push(6);
            out.push(u8::try_from(members.len()).unwrap_or(u8::MAX));
            for member in members.iter().take(usize::from(u8::MAX)) {
                put(&mut out, member.serial.as_bytes());
                out.extend_from_slice(&member.status.to_le_bytes());
            }
        }
        Reply::Failed(failure) => {
            out.push(7);
            out.extend_from_slice(&failure.code.to_le_bytes());
            out.push(u8::from(failure.login));
            put(&mut out, failure.detail.as_bytes());
        }
    }
    finish(&mut out);
    out
}

/// Reads the body of a request frame.
pub(crate) fn decode_request(frame: &[u8]) -> io::Result<(u64, Request)> {
    let mut rest = Cursor(frame);
    let call_id = rest.u64()?;
    let request = match rest.u8()? {
        1 => Request::Find { module: rest.text()?, token_label: rest.text()? },
        2 => {
            Request::Login(Login { crypto_user: rest.bool()?, sessions: rest.u8()?, pin: Zeroizing::new(rest.text()?) })
        }
        3 => Request::Sign { key_id: rest.array()?, digest: rest.array()? },
        4 => Request::Generate { label: rest.text()?, key_id: rest.array()?, may_create: rest.bool()? },
        5 => Request::Authorize { key_id: rest.array()?, data: Zeroizing::new(rest.text()?) },
        6 => Request::Members,
        _ => return Err(malformed()),
    };
    rest.end(request).map(|request| (call_id, request))
}

/// Reads the body of a reply frame.
pub(crate) fn decode_reply(frame: &[u8]) -> io::Result<(u64, Reply)> {
    let mut rest = Cursor(frame);
    let call_id = rest.u64()?;
    let reply = match rest.u8()? {
        1 => Reply::Found(PinState { wrong_before: rest.bool()?, last_try: rest.bool()?, locked: rest.bool()? }),
        2 => Reply::Opened,
        3 => Reply::Signature(rest.bytes()?.to_vec()),
        4 => Reply::PublicKey(rest.bytes()?.to_vec()),
        5 => Reply::Authorized,
        6 => {
            let len = rest.u8()?;
            let members = (0..len).map(|_| Ok(Member { serial: rest.text()?, status: rest.u64()? }));
            Reply::Members(members.collect::<io::Result<_>>()?)
        }
        7 => Reply::Failed(Failure { code: rest.u64()?, login: rest.bool()?, detail: rest.text()? }),
        _ => return Err(malformed()),
    };
    rest.end(reply).map(|reply| (call_id, reply))
}

/// Reads one frame; `None` at the orderly end.
pub(crate) fn read_frame(input: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut len = [0; 4];
    match input.read_exact(&mut len) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = frame_len(len)?;
    let mut frame = Zeroizing::new(vec![0; len]);
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

/// Writes a framed message.
pub(crate) fn write_frame(output: &mut impl Write, framed: &[u8]) -> io::Result<()> {
    output.write_all(framed)?;
    output.flush()
}

/// Length of a frame from its prefix.
pub(crate) fn frame_len(prefix: [u8; 4]) -> io::Result<usize> {
    match u32::from_le_bytes(prefix) as usize {
        len if len <= MAX_FRAME_LEN => Ok(len),
        _ => Err(malformed()),
    }
}

fn finish(out: &mut [u8]) {
    let len = u32::try_from(out.len() - 4).expect("a frame is far below 4 GiB");
    out[..4].copy_from_slice(&len.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("a field is far below 4 GiB").to_le_bytes());
    out.extend_from_slice(bytes);
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed frame")
}

struct Cursor<'a>(&'a [u8]);

// === impl Cursor ===

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(malformed)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| malformed())
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn bool(&mut self) -> io::Result<bool> {
        Ok(self.u8()? != 0)
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        self.take(len)
    }

    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| malformed())
    }

    fn end<T>(self, value: T) -> io::Result<T> {
        if self.0.is_empty() { Ok(value) } else { Err(malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_trip() {
        let member = |serial: &str, status| Member { serial: serial.to_owned(), status };
        let replies = [
            Reply::Found(PinState { wrong_before: true, last_try: false, locked: true }),
            Reply::Opened,
            Reply::Signature(vec![1; 64]),
            Reply::PublicKey(vec![4; 65]),
            Reply::Authorized,
            Reply::Members(vec![member("1001", 0), member("1002", 0x8000_001F)]),
            Reply::Failed(Failure { code: 0x8000_002E, login: true, detail: "C_Login".to_owned() }),
        ];
        for reply in replies {
            let framed = encode_reply(9, &reply);
            let frame = read_frame(&mut framed.as_slice()).unwrap().unwrap();
            assert_eq!(decode_reply(&frame).unwrap(), (9, reply));
            assert!(decode_reply(&frame[..frame.len() - 1]).is_err());
        }
        let again = |request: &Request| decode_request(&encode_request(1, request)[4..]).unwrap();
        let login = Login { crypto_user: true, sessions: 3, pin: Zeroizing::new("1234".to_owned()) };
        let (1, Request::Login(login)) = again(&Request::Login(login)) else { panic!("another request") };
        assert_eq!((login.pin.as_str(), login.crypto_user, login.sessions), ("1234", true, 3));
        let find = Request::Find { module: "m".to_owned(), token_label: "t".to_owned() };
        assert!(
            matches!(again(&find), (1, Request::Find { module, token_label }) if module == "m" && token_label == "t")
        );
        let sign = Request::Sign { key_id: [1; 32], digest: [2; 32] };
        assert!(matches!(again(&sign), (1, Request::Sign { key_id: [1, ..], digest: [2, ..] })));
        let make = Request::Generate { label: "l".to_owned(), key_id: [1; 32], may_create: true };
        assert!(matches!(again(&make), (1, Request::Generate { may_create: true, .. })));
        let open = Request::Authorize { key_id: [1; 32], data: Zeroizing::new("d".to_owned()) };
        assert!(matches!(again(&open), (1, Request::Authorize { data, .. }) if data.as_str() == "d"));
        assert!(matches!(again(&Request::Members), (1, Request::Members)));
        assert!(read_frame(&mut [0xff; 8].as_slice()).is_err(), "an absurd length is a fault");
        assert!(read_frame(&mut [].as_slice()).unwrap().is_none());
    }

    /// Some modules sign whatever length they are given.
    #[test]
    fn a_digest_is_32_bytes_or_no_request() {
        let whole = encode_request(1, &Request::Sign { key_id: [1; 32], digest: [2; 32] })[4..].to_vec();
        assert!(decode_request(&whole).is_ok());
        assert!(decode_request(&whole[..whole.len() - 1]).is_err(), "31 bytes");
        assert!(decode_request(&[whole, vec![2]].concat()).is_err(), "33 bytes");
    }
}
