//! The child process that holds one partition: one context, one login, one session per thread.
//!
//! It lives apart because a module may crash, hang for minutes or corrupt memory, and none of that may touch the signer. It is ended by closing its socket
//! or by a kill; it never tries to recover by itself, because a fresh process is the only clean state a module has.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock},
};

use cryptoki::{context::Pkcs11, object::ObjectHandle, session::Session, slot::Slot};
use dalp_luna::{CallError, Luna};

use super::{
    codes, token,
    wire::{self, Failure, Login, Member, Reply, Request},
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
    /// The module, for the vendor's own calls.
    module: PathBuf,
    /// The slot of the token.
    slot: Slot,
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
    let mut output = input.try_clone()?;
    let mut reply =
        move |call_id: u64, reply: &Reply| wire::write_frame(&mut output, &wire::encode_reply(call_id, reply));

    let Some(frame) = wire::read_frame(&mut input)? else { return Ok(()) };
    let (call_id, Request::Find { module, token_label }) = wire::decode_request(&frame)? else {
        return Err(out_of_turn("the first frame must find the token"));
    };
    let found = token::load(&module).and_then(|context| {
        let slot = token::find(&context, &token_label)?;
        Ok((token::pin_state(&context, slot)?, context, slot))
    });
    let (context, slot) = match found {
        Ok((pin, context, slot)) => {
            reply(call_id, &Reply::Found(pin))?;
            (context, slot)
        }
        Err(failure) => return reply(call_id, &Reply::Failed(failure)),
    };

    let Some(frame) = wire::read_frame(&mut input)? else { return Ok(()) };
    let (call_id, Request::Login(login)) = wire::decode_request(&frame)? else {
        return Err(out_of_turn("the second frame must log in"));
    };
    drop(frame);
    let sessions = match log_in(&context, slot, &login) {
        Ok(sessions) => sessions,
        Err(failure) => return reply(call_id, &Reply::Failed(failure)),
    };
    drop(login);
    let shared = Arc::new(Shared {
        queue: Queue::default(),
        module: module.into(),
        slot,
        handles: RwLock::default(),
        generating: Mutex::default(),
        output: Mutex::new(input.try_clone()?),
    });
    for session in sessions {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || shared.work(&session));
    }
    // The context is never finalised: the process ends instead, and a race at finalisation is a known crash.
    std::mem::forget(context);
    shared.reply(call_id, &Reply::Opened)?;

    // Only now: a buffer before would keep the PIN.
    let mut input = io::BufReader::new(input);
    while let Some(frame) = wire::read_frame(&mut input)? {
        shared.queue.push(wire::decode_request(&frame)?);
    }
    Ok(())
}

/// The sessions of a token, logged in: a login is the whole process's.
fn log_in(context: &Pkcs11, slot: Slot, login: &Login) -> Result<Vec<Session>, Failure> {
    let first = session(context, slot)?;
    token::login(&first, login.crypto_user, &login.pin)?;
    let mut sessions = vec![first];
    while sessions.len() < usize::from(login.sessions.max(1)) {
        sessions.push(session(context, slot)?);
    }
    Ok(sessions)
}

fn out_of_turn(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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
            Request::Generate { label, key_id, may_create } => {
                let _one = self.generating.lock().unwrap_or_else(PoisonError::into_inner);
                token::find_or_generate(session, label, key_id, *may_create).map(Reply::PublicKey)
            }
            Request::Authorize { key_id, data } => {
                let key = self.handle(session, key_id)?;
                let opened = self.luna()?.authorize_key(session.handle(), key.handle(), data.as_bytes());
                opened.map(|()| Reply::Authorized).map_err(vendor_failure)
            }
            Request::Members => {
                let members = self.luna()?.ha_members(self.slot.id()).map_err(vendor_failure)?;
                let told = members.into_iter().map(|member| Member { serial: member.serial, status: member.status });
                Ok(Reply::Members(told.collect()))
            }
            Request::Find { .. } | Request::Login(_) => Err(token::own(0, "the token is open")),
        }
    }

    fn luna(&self) -> Result<Luna, Failure> {
        Luna::open(&self.module).map_err(|error| token::own(0, error.to_string()))
    }

    fn handle(&self, session: &Session, key_id: &[u8; 32]) -> Result<ObjectHandle, Failure> {
        if let Some(handle) = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(key_id) {
            return Ok(*handle);
        }
        let handle = token::private_key(session, key_id)?
            .ok_or_else(|| token::own(codes::NO_KEY, "the token does not hold this key"))?;
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(*key_id, handle);
        Ok(handle)
    }

    fn reply(&self, call_id: u64, reply: &Reply) -> io::Result<()> {
        let framed = wire::encode_reply(call_id, reply);
        wire::write_frame(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner), &framed)
    }
}

fn vendor_failure(error: CallError) -> Failure {
    let code = match error {
        CallError::Missing(_) => 0,
        CallError::Code(_, code) => code,
    };
    token::own(code, error.to_string())
}
