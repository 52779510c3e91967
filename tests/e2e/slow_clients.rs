//! Clients that send or read slowly: they are served, and delay no other client.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::support::*;

/// A whole exchange of another client. The slow clients continue only after it, so if it waited for them, it would exceed the
/// client's time limit.
async fn assert_others_are_served(app: &TestApp) {
    let key = fresh_key();
    assert_eq!(app.place(&key, ORDER).await.status, 201);
    assert_eq!(app.place(&key, ORDER).await.header("idempotent-replayed"), "true");
}

/// hyper 1.12 may leave a pipelined request in its buffer until more bytes arrive: if a body ends between its two attempts to
/// write (`poll_loop` in `proto/h1/dispatch.rs`), it does not look for the next request. Seen once in some thirty runs.
const NUDGE_AFTER: Duration = Duration::from_secs(5);

/// A client that reads only as much as it is told to.
struct Client {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// The system buffers little for it, so the sender has to wait.
    async fn connect(app: &TestApp) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(address(app).parse().unwrap()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, unread: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn read(&mut self, at_most: usize) {
        let mut piece = vec![0; at_most];
        let mut read = tokio::time::timeout(NUDGE_AFTER, self.socket.read(&mut piece)).await;
        if read.is_err() {
            // An empty line before a request is ignored (RFC 9112, 2.2).
            self.socket.write_all(b"\r\n").await.unwrap();
            read = tokio::time::timeout(CLIENT_TIMEOUT, self.socket.read(&mut piece)).await;
        }
        let length = read.expect("an answer goes on").unwrap();
        assert!(length > 0, "cut off after {:?}", String::from_utf8_lossy(&self.unread));
        self.unread.extend_from_slice(&piece[..length]);
    }

    /// Head and body of the next answer.
    async fn answer(&mut self) -> (String, Vec<u8>) {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read(4096).await;
        };
        let head = String::from_utf8(self.unread[..head_end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let end = head_end + length.parse::<usize>().unwrap();
        while self.unread.len() < end {
            self.read(end - self.unread.len()).await;
        }
        let rest = self.unread.split_off(end);
        (head, std::mem::replace(&mut self.unread, rest).split_off(head_end))
    }
}

fn address(app: &TestApp) -> &str {
    app.url.strip_prefix("http://").unwrap()
}

#[tokio::test]
async fn slow_bodies_place_their_orders_and_delay_no_other_client() {
    // More than the pool has PostgreSQL connections, so that the other requests would lack those that slow clients held.
    const SLOW: usize = 64 + 16;
    // The stores' deadlines do not include the wait for the body.
    let pg_deadline = Duration::from_millis(5000);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", &pg_deadline.as_millis().to_string())]).await;
    let mut clients = Vec::new();
    for _ in 0..SLOW {
        let (key, mut client) = (fresh_key(), Client::connect(&app).await);
        let head = format!(
            "POST /orders HTTP/1.1\r\nHost: {}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            address(&app),
            ORDER.len()
        );
        client.send(head).await;
        clients.push((key, client));
    }
    // Piece by piece, with other clients' requests between the pieces as the pause.
    let started = Instant::now();
    let (first, last) = ORDER.as_bytes().split_at(ORDER.len() / 2);
    for piece in first.chunks(8) {
        for (_, client) in &mut clients {
            client.send(piece).await;
        }
        assert_others_are_served(&app).await;
    }
    while started.elapsed() < 2 * pg_deadline {
        assert_others_are_served(&app).await;
    }
    let keys: Vec<_> = clients.iter().map(|(key, _)| key.clone()).collect();
    let (owner, rows) = (owner().await, "SELECT count(*) FROM orders WHERE idempotency_key = ANY ($1)");
    let rows = async || -> i64 { owner.query_one(rows, &[&keys]).await.unwrap().get(0) };
    assert_eq!(rows().await, 0, "placed before its body was there");
    for (key, mut client) in clients {
        client.send(last).await;
        let (head, body) = client.answer().await;
        assert!(head.starts_with("http/1.1 201 ") && head.contains("idempotent-replayed: false"), "{head}");
        let replay = app.place(&key, ORDER).await;
        assert_eq!((replay.status, replay.body.as_bytes()), (201, body.as_slice()));
    }
    assert_eq!(rows().await, SLOW as i64);
}

#[tokio::test]
async fn slowly_read_answers_arrive_whole_and_delay_no_other_client() {
    // As many as one instance serves at once.
    const SLOW: usize = 16;
    /// More than Linux buffers for a socket that is not read (`tcp_wmem`: 4 MiB), so the rest waits in the component.
    const UNREAD_BYTES: usize = 6 * 1024 * 1024;
    let app = TestApp::start().await;
    let customer = fresh_key();
    let item = format!(r#"{{"sku":"{}","quantity":1,"unitAmount":1}}"#, "€".repeat(64));
    let items = vec![item; 100].join(",");
    for _ in 0..20 {
        let order = format!(r#"{{"customerId":"{customer}","currency":"RUB","items":[{items}]}}"#);
        assert_eq!(app.place(&fresh_key(), &order).await.status, 201);
    }
    let path = format!("/orders?customerId={customer}");
    let whole = app.get(&path).await.body;
    // One after another on one connection: the next answer starts when the one before is written.
    let answers = UNREAD_BYTES / whole.len() + 1;
    let requests = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", address(&app)).repeat(answers);

    let mut clients = Vec::new();
    for _ in 0..SLOW {
        let mut client = Client::connect(&app).await;
        client.send(&requests).await;
        clients.push(client);
    }
    // A few bytes each, then requests of other clients as the pause.
    for _ in 0..20 {
        for client in &mut clients {
            client.read(16).await;
        }
        assert_others_are_served(&app).await;
    }
    for client in &mut clients {
        for _ in 0..answers {
            let (head, body) = client.answer().await;
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert!(body == whole.as_bytes(), "another list");
        }
    }
    assert_others_are_served(&app).await;
}
