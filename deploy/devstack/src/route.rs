//! One address for the replicas of a service, as a Service object of Kubernetes is: each new connection goes to the next replica that is ready, and stays with it.
//!
//! It carries bytes and knows nothing of what they are, so TLS is between caller and replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a replica may take to be connected to, or to say whether it is ready, before the next one is asked.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// The begin of an answer that says yes.
const YES: &[u8] = b"HTTP/1.1 200 ";

/// Where one replica listens.
#[derive(Debug, Clone)]
pub struct Replica {
    /// For callers.
    pub address: String,
    /// For metrics, where it also says whether it is ready.
    pub metrics: String,
}

/// An address that leads to replicas. Dropped: ended, with its connections.
#[derive(Debug)]
pub struct Route {
    address: SocketAddr,
    /// Ended when this is dropped.
    _carrying: JoinSet<()>,
}

// === impl Replica ===

impl Replica {
    /// Whether it says that it is ready to be called.
    pub async fn is_ready(&self) -> bool {
        timeout(ANSWERS_WITHIN, self.ask()).await.is_ok_and(|said| said.unwrap_or(false))
    }

    async fn ask(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(&self.metrics).await?;
        let question = format!("GET /readyz HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.metrics);
        stream.write_all(question.as_bytes()).await?;
        let mut answer = [0; YES.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer == YES)
    }

    /// A connection to it, if it is ready.
    async fn connect(&self) -> Option<TcpStream> {
        if !self.is_ready().await {
            return None;
        }
        timeout(ANSWERS_WITHIN, TcpStream::connect(&self.address)).await.ok()?.ok()
    }
}

// === impl Route ===

impl Route {
    /// Listens at `address`. Must be called on a runtime, whose tasks carry the bytes.
    ///
    /// # Errors
    /// When the address is not free.
    pub async fn open(address: &str, replicas: Vec<Replica>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
        let address = listener.local_addr()?;
        let mut carrying = JoinSet::new();
        carrying.spawn(accept(listener, replicas.into()));
        Ok(Self { address, _carrying: carrying })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, replicas: Arc<[Replica]>) {
    let mut connections = JoinSet::new();
    for turn in 0.. {
        // A connection that broke before it was taken is its caller's to repeat.
        if let Ok((caller, _)) = listener.accept().await {
            connections.spawn(carry(caller, replicas.clone(), turn));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection to the replica whose turn it is, or to the next one that is ready. Where none is, the caller is hung up on.
async fn carry(mut caller: TcpStream, replicas: Arc<[Replica]>, turn: usize) {
    for replica in replicas.iter().cycle().skip(turn % replicas.len().max(1)).take(replicas.len()) {
        let Some(mut callee) = replica.connect().await else { continue };
        let _ = (caller.set_nodelay(true), callee.set_nodelay(true)); // slower, no more
        let _ = copy_bidirectional(&mut caller, &mut callee).await; // either end may break off
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A replica that says its name and then what it is told; and a prober's answer.
    async fn replica(name: &'static str, readiness: &'static str) -> (Replica, JoinSet<()>) {
        let (callers, prober) = (bound().await, bound().await);
        let listens = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let replica = Replica { address: listens(&callers), metrics: listens(&prober) };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut stream, _) = callers.accept().await.expect("accepted");
                open.spawn(async move {
                    stream.write_all(name.as_bytes()).await.expect("written");
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = prober.accept().await.expect("accepted");
                let mut question = [0; 1_024];
                let _ = stream.read(&mut question).await.expect("asked");
                stream.write_all(format!("HTTP/1.1 {readiness}\r\n\r\n").as_bytes()).await.expect("written");
            }
        });
        (replica, tasks)
    }

    async fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.expect("a free port")
    }

    /// The name of who answers, one letter; nothing: hung up on.
    async fn answers(route: &Route) -> Option<char> {
        let mut stream = TcpStream::connect(route.address()).await.expect("it listens");
        let mut name = [0; 1];
        stream.read_exact(&mut name).await.ok().map(|_| char::from(name[0]))
    }

    async fn route(replicas: [&Replica; 2]) -> Route {
        Route::open("127.0.0.1:0", replicas.map(Clone::clone).to_vec()).await.expect("it listens")
    }

    #[tokio::test]
    async fn connections_go_to_replicas_in_turn_and_past_one_that_is_gone() {
        let ((one, _tasks), (other, tasks)) = (replica("1", "200 OK").await, replica("2", "200 OK").await);
        let route = route([&one, &other]).await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(answers(&route).await);
        }
        assert_eq!(seen, [Some('1'), Some('2'), Some('1'), Some('2')]);
        drop(tasks); // with its listeners
        while other.is_ready().await {}
        for _ in 0..4 {
            assert_eq!(answers(&route).await, Some('1'));
        }
    }

    #[tokio::test]
    async fn one_that_is_not_ready_gets_none_and_without_any_callers_are_hung_up_on() {
        let (one, _tasks) = replica("1", "503 Service Unavailable").await;
        let (other, _others) = replica("2", "200 OK").await;
        let route_to_one = route([&one, &other]).await;
        for _ in 0..3 {
            assert_eq!(answers(&route_to_one).await, Some('2'));
        }
        let route_to_none = route([&one, &one]).await;
        assert_eq!(answers(&route_to_none).await, None);
    }

    #[tokio::test]
    async fn what_is_said_arrives_both_ways_and_an_end_is_passed_on() {
        let (one, _tasks) = replica("1", "200 OK").await;
        let route = route([&one, &one]).await;
        let mut stream = TcpStream::connect(route.address()).await.expect("it listens");
        stream.write_all(b"abc").await.expect("written");
        stream.shutdown().await.expect("ended");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.expect("read to its end");
        assert_eq!(heard, "1abc");
    }

    #[tokio::test]
    async fn who_is_connected_hears_when_its_replica_dies_and_the_next_connection_goes_on() {
        let ((one, tasks), (other, _tasks)) = (replica("1", "200 OK").await, replica("2", "200 OK").await);
        let route = route([&one, &other]).await;
        let mut stream = TcpStream::connect(route.address()).await.expect("it listens");
        let mut name = [0; 1];
        stream.read_exact(&mut name).await.expect("its name");
        drop(tasks);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await; // an end or a break, as the system says it
        assert_eq!((name, rest.len()), (*b"1", 0));
        while one.is_ready().await {}
        assert_eq!(answers(&route).await, Some('2'));
    }
}
