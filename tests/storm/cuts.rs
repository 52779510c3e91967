//! Clients that disconnect without reading the answer.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::service::{Host, client, owner, setting, superuser};

const AT_ONCE: usize = 32;
/// Before, during and after the work: a placed order takes a few milliseconds.
const LONGEST_WAIT_MS: u64 = 20;
/// The size of the pool, of Spin and of the bundled host.
const POOL_SIZE: i64 = 64;
const FULL_LOAD: usize = 256;

fn order(customer: &str) -> String {
    format!(r#"{{"customerId":"{customer}","currency":"RUB","items":[{{"sku":"S","quantity":1,"unitAmount":1}}]}}"#)
}

/// Sends a whole request and closes the socket after `wait`.
async fn cut(host: &Host, key: &str, body: &str, wait: Duration) {
    let address = host.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: {address}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    tokio::time::sleep(wait).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_leave_and_come_back_place_one_order_each() {
    let cuts = setting("CUTS", 1000) as usize;
    let seed = setting("STORM_SEED", fastrand::u64(..1_000_000));
    let mut random = fastrand::Rng::with_seed(seed);
    let customer = format!("cuts-{seed}-{}", fastrand::u32(..));
    let host = Host::start("cuts", None, &[]).await;
    let http = client();
    let body = order(&customer);
    let place = async |key: String| {
        let request = http.post(format!("{}/orders", host.url)).header("Idempotency-Key", key);
        let request = request.header("Content-Type", "application/json").body(body.clone());
        let answer = request.send().await.expect("an answer");
        let replayed = answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        (answer.status().as_u16(), replayed)
    };
    let orders = async || -> i64 {
        let sql = "SELECT count(*) FROM orders WHERE customer_id = $1";
        owner().await.query_one(sql, &[&customer]).await.unwrap().get(0)
    };

    let waits: Vec<_> = (0..cuts).map(|_| Duration::from_micros(random.u64(..LONGEST_WAIT_MS * 1000))).collect();
    let each = waits.into_iter().enumerate();
    stream::iter(each)
        .for_each_concurrent(AT_ONCE, async |(key, wait)| cut(&host, &format!("{customer}-{key}"), &body, wait).await)
        .await;
    let answers: Vec<_> =
        stream::iter(0..cuts).map(|key| place(format!("{customer}-{key}"))).buffer_unordered(AT_ONCE).collect().await;
    let replayed = answers.iter().filter(|(_, replayed)| *replayed).count();
    assert!(answers.iter().all(|(status, _)| *status == 201), "{answers:?}");
    assert_eq!(orders().await, cuts as i64);

    // Nothing is kept for the clients that left: once their requests are over, no session is busy,
    // and the whole pool can be busy at once, so no dead instance holds a connection.
    let superuser = superuser().await;
    let busy = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'orders_service' AND state <> 'idle'";
        superuser.query_one(sql, &[]).await.unwrap().get(0)
    };
    wait_until("no session is busy", async || busy().await == 0).await;
    let lock = owner().await;
    lock.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // The test uses reads, since creates share a session.
    let read =
        async || http.get(format!("{}/orders?limit=1", host.url)).send().await.expect("an answer").status().as_u16();
    let waiting = stream::iter(0..2 * POOL_SIZE).map(|_| read());
    let waiting = waiting.buffer_unordered(2 * POOL_SIZE as usize).collect::<Vec<_>>();
    let release = async {
        wait_until("the whole pool is busy", async || busy().await == POOL_SIZE).await;
        lock.batch_execute("ROLLBACK").await.unwrap();
    };
    let (waiting, ()) = futures::join!(waiting, release);
    assert!(waiting.iter().all(|status| *status == 200), "{waiting:?}");

    let load = (0..4 * FULL_LOAD).map(|key| place(format!("{customer}-load-{key}")));
    let load: Vec<_> = stream::iter(load).buffer_unordered(FULL_LOAD).collect().await;
    assert!(load.iter().all(|answer| *answer == (201, false)));
    assert_eq!(host.traps(), Vec::<String>::new());
    println!(
        "cuts: seed {seed}: {cuts} sockets closed, {replayed} of those orders were placed all the same, \
         {cuts} orders after the retries; then all {POOL_SIZE} PostgreSQL connections could be busy at once, \
         and {FULL_LOAD} clients placed {} orders without an error",
        load.len()
    );
}

async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
