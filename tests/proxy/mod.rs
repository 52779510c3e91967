//! Stands between the service and a store, for the tests and the storms.

#![allow(dead_code, reason = "each of them uses some of it")]

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
const REFUSE: u8 = 1;
const STALL: u8 = 2;

/// Part of what the hosts' pools send to reset a session (deadpool's clean recycling).
const RESET: &str = "DISCARD SEQUENCES";

/// Passes what it gets, until it is told otherwise.
pub struct Proxy {
    pub port: u16,
    way: Arc<Way>,
}

/// What the relays share.
struct Way {
    mode: AtomicU8,
    /// How often the connections of that time were frozen. One that is older than the last time stays so.
    freezes: AtomicUsize,
    /// How often the connections of that time were cut.
    cuts: AtomicUsize,
    /// The beginning of a statement whose answer is to be lost, once.
    loses: Mutex<Option<&'static str>>,
    /// How often a client opened a connection to PostgreSQL or reset one.
    takes: AtomicUsize,
    changed: tokio::sync::Notify,
    upstream: Mutex<String>,
}

impl Proxy {
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Way {
            mode: AtomicU8::new(PASS),
            freezes: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            loses: Mutex::new(None),
            takes: AtomicUsize::new(0),
            changed: tokio::sync::Notify::new(),
            upstream: Mutex::new(upstream),
        });
        let shared = way.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Dropped at once: the store is gone.
                if shared.mode.load(Ordering::SeqCst) != REFUSE {
                    tokio::spawn(relay(client, shared.clone()));
                }
            }
        });
        Self { port, way }
    }

    fn switch(&self, mode: u8) {
        self.way.mode.store(mode, Ordering::SeqCst);
        self.way.changed.notify_waiters();
    }

    /// As a store that runs.
    pub fn pass(&self) {
        self.switch(PASS);
    }

    /// As a store that was killed: connections break, new ones too.
    pub fn refuse(&self) {
        self.switch(REFUSE);
    }

    /// As a store under SIGSTOP: connections stay and new ones open, and nothing is answered.
    pub fn stall(&self) {
        self.switch(STALL);
    }

    /// As a path that forgot its connections: those that are there stay open and are silent for good, new ones are served.
    pub fn freeze(&self) {
        self.way.freezes.fetch_add(1, Ordering::SeqCst);
        self.way.changed.notify_waiters();
    }

    /// As a store that ends its connections: those that are there break, new ones are served.
    pub fn cut(&self) {
        self.way.cuts.fetch_add(1, Ordering::SeqCst);
        self.way.changed.notify_waiters();
    }

    /// Breaks a connection to PostgreSQL when it has committed the next `statement`, before the answer.
    pub fn lose_the_answer_to(&self, statement: &'static str) {
        *self.way.loses.lock().unwrap() = Some(statement);
    }

    /// How often the host has taken a session of PostgreSQL from its pool. It resets a session that it takes again.
    pub fn takes(&self) -> usize {
        self.way.takes.load(Ordering::SeqCst)
    }

    /// As an address that moved: connections stay where they are, new ones go there.
    pub fn lead_to(&self, upstream: String) {
        *self.way.upstream.lock().unwrap() = upstream;
    }
}

async fn relay(mut client: TcpStream, way: Arc<Way>) {
    let (freezes, cuts) = (way.freezes.load(Ordering::SeqCst), way.cuts.load(Ordering::SeqCst));
    way.takes.fetch_add(1, Ordering::SeqCst);
    let upstream = way.upstream.lock().unwrap().clone();
    let Ok(mut server) = TcpStream::connect(&upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut answers_to_loss = None;
    loop {
        let change = way.changed.notified();
        if way.freezes.load(Ordering::SeqCst) != freezes {
            std::future::pending::<()>().await;
        }
        if way.cuts.load(Ordering::SeqCst) != cuts {
            return;
        }
        match way.mode.load(Ordering::SeqCst) {
            REFUSE => return,
            STALL => change.await,
            _ => tokio::select! {
                () = change => {}
                read = client.read(&mut up) => match read {
                    Ok(length @ 1..) if server.write_all(&up[..length]).await.is_ok() => {
                        let has = |text: &str| up[..length].windows(text.len()).any(|part| part == text.as_bytes());
                        way.takes.fetch_add(usize::from(has(RESET)), Ordering::SeqCst);
                        if way.loses.lock().unwrap().take_if(|statement| has(statement)).is_some() {
                            // It is prepared first.
                            answers_to_loss = Some(2);
                        }
                    }
                    _ => return,
                },
                read = server.read(&mut down) => match read {
                    Ok(1..) if answers_to_loss.as_mut().is_some_and(|left| { *left -= 1; *left == 0 }) => return,
                    Ok(length @ 1..) if client.write_all(&down[..length]).await.is_ok() => {}
                    _ => return,
                },
            },
        }
    }
}
