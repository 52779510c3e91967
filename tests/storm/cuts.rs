//! Clients that leave without reading the answer.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::service::{Host, owner, setting, superuser};

const AT_ONCE: usize = 32;
/// Before, during and after the work: a placed order takes a few milliseconds.
const LONGEST_WAIT_MS: u64 = 20;
/// Spin's, and the bundled host's.
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
    let host = Host::start("cuts", &[], &[]).await;
    let http = reqwest::Client::new();
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

    // Nothing is kept for those who left: every connection goes back to the pool idle, and full load is served.
    let sql = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
               WHERE usename = 'orders_service'";
    let superuser = superuser().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let connections = loop {
        let row = superuser.query_one(sql, &[]).await.unwrap();
        let (all, busy): (i64, i64) = (row.get(0), row.get(1));
        if busy == 0 {
            break all;
        }
        assert!(Instant::now() < deadline, "{busy} of {all} connections stay busy");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(connections <= POOL_SIZE, "{connections}");
    let load = (0..4 * FULL_LOAD).map(|key| place(format!("{customer}-load-{key}")));
    let load: Vec<_> = stream::iter(load).buffer_unordered(FULL_LOAD).collect().await;
    assert!(load.iter().all(|answer| *answer == (201, false)));
    println!(
        "cuts: seed {seed}: {cuts} sockets closed, {replayed} of those orders were placed all the same, \
         {cuts} orders after the retries; {connections} PostgreSQL connections, none busy; \
         then {} orders by {FULL_LOAD} clients without an error",
        load.len()
    );
}
