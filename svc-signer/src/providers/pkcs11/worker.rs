//! The child process that holds one partition: one context, one login, one session per thread.
//!
//! It lives apart because a module may crash, hang for minutes or corrupt memory, and none of that may touch the signer. It is ended by closing its socket
//! or by a kill; it never tries to recover by itself, because a fresh process is the only clean state a module has.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock},
};

use cryptoki::{context::Pkcs11, object::ObjectHandle, session::Session, slot::Slot};

use super::{
    token,
    wire::{self, Failure, Open, Reply, Request},
};

/// Calls that wait for a session.
#[derive(Default)]
struct Queue {
    calls: Mutex<VecDeque<(u64, Request)>>,
    waiting: Condvar,
}

/// What all session threads share.
struct Shared {
    queue: Queue,
    /// Handles by `CKA_ID`; they are valid in every session of the process.
    handles: RwLock<HashMap<[u8; 32], ObjectHandle>>,
    /// One generation at a time: two threads that both find no key of an id would make two.
    generating: Mutex<()>,
    /// The socket, one reply at a time.
    output: Mutex<UnixStream>,
}

/// Serves the socket on standard input until it closes.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // Standard error is the signer's; there is no logger in this process, so that a module cannot meddle with it.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let mut input = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let shared = Arc::new(Shared {
        queue: Queue::default(),
        handles: RwLock::default(),
        generating: Mutex::default(),
        output: Mutex::new(input.try_clone()?),
    });
    let Some(frame) = wire::read_frame(&mut input)? else { return Ok(()) };
    let (call_id, Request::Open(open)) = wire::decode_request(&frame)? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame must open the token"));
    };
    drop(frame);
    match open_token(&open, &shared) {
        Ok(()) => shared.reply(call_id, &Reply::Opened)?,
        Err(failure) => return shared.reply(call_id, &Reply::Failed(failure)),
    }
    drop(open);
    // Only now: a buffer before would keep the PIN.
    let mut input = io::BufReader::new(input);
    while let Some(frame) = wire::read_frame(&mut input)? {
        shared.queue.push(wire::decode_request(&frame)?);
    }
    Ok(())
}

fn open_token(open: &Open, shared: &Arc<Shared>) -> Result<(), Failure> {
    let context = token::load(&open.module)?;
    let slot = token::find(&context, &open.token_label)?;
    let first = session(&context, slot)?;
    token::login(&first, open.crypto_user, &open.pin)?;
    let mut sessions = vec![first];
    while sessions.len() < usize::from(open.sessions.max(1)) {
        sessions.push(session(&context, slot)?);
    }
    for session in sessions {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || shared.work(&session));
    }
    // The context is never finalised: the process ends instead, and a race at finalisation is a known crash.
    std::mem::forget(context);
    Ok(())
}

fn session(context: &Pkcs11, slot: Slot) -> Result<Session, Failure> {
    context.open_rw_session(slot).map_err(|error| token::failure(&error))
}

// === impl Queue ===

impl Queue {
    fn push(&self, call: (u64, Request)) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push_back(call);
        self.waiting.notify_one();
    }

    fn pop(&self) -> (u64, Request) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match calls.pop_front() {
                Some(call) => return call,
                None => calls = self.waiting.wait(calls).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The life of a session thread. The session never leaves it.
    fn work(&self, session: &Session) {
        loop {
            let (call_id, request) = self.queue.pop();
            let reply = self.answer(session, &request).unwrap_or_else(Reply::Failed);
            if self.reply(call_id, &reply).is_err() {
                std::process::exit(1);
            }
        }
    }

    fn answer(&self, session: &Session, request: &Request) -> Result<Reply, Failure> {
        match request {
            Request::Sign { key_id, digest } => {
                let key = self.handle(session, key_id)?;
                token::sign(session, key, digest).map(Reply::Signature)
            }
            Request::Generate { label, key_id } => {
                let _one = self.generating.lock().unwrap_or_else(PoisonError::into_inner);
                token::find_or_generate(session, label, key_id).map(Reply::PublicKey)
            }
            Request::Open(_) => Err(Failure { code: 0, login: false, detail: "the token is open".to_owned() }),
        }
    }

    fn handle(&self, session: &Session, key_id: &[u8; 32]) -> Result<ObjectHandle, Failure> {
        if let Some(handle) = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(key_id) {
            return Ok(*handle);
        }
        let handle = token::private_key(session, key_id)?.ok_or_else(|| Failure {
            code: 0,
            login: false,
            detail: "the token does not hold this key".to_owned(),
        })?;
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(*key_id, handle);
        Ok(handle)
    }

    fn reply(&self, call_id: u64, reply: &Reply) -> io::Result<()> {
        let framed = wire::encode_reply(call_id, reply);
        wire::write_frame(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner), &framed)
    }
}
