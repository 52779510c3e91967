//! A path to PostgreSQL that forgets its connections: each stays open and silent forever; new ones are served.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use crate::proxy::Proxy;
use crate::service::{Host, client, setting, variable};

/// The size of the host's pool.
const POOL_SIZE: usize = 64;
const PG_DEADLINE_SECONDS: usize = 3;
/// The pool hands its connections out in turn: after so many takes that worked, none is left that would not.
const WELL: usize = 2 * POOL_SIZE;
/// By then a batch gives up a connection that is silent; its requests may still succeed, one by one.
const SHORTEST: Duration = Duration::from_millis(PG_DEADLINE_SECONDS as u64 * 750);
/// A request that takes longer has no deadline, however slow the machine.
const LONGEST: Duration = Duration::from_secs(20);

struct Seen {
    status: u16,
    /// The answers after the freeze.
    ended: Duration,
    took: Duration,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_of_a_frozen_path_costs_one_request_and_no_more() {
    let seconds = setting("FREEZE_SECONDS", 6).max(3) as usize;
    let limit = Duration::from_secs(2 * seconds as u64) + 3 * LONGEST;
    // How many clients there were, and so at most that many connections, and how many remain when the path freezes. In the
    // last case they are so few that they take longest to meet every connection.
    let few = (POOL_SIZE * PG_DEADLINE_SECONDS / seconds).max(1);
    let run = fastrand::u32(..);
    for (before, clients) in [(16, 16), (POOL_SIZE, POOL_SIZE), (POOL_SIZE, few)] {
        let upstream = variable("SPIN_VARIABLE_PG_ADDRESS").replace("postgres://", "");
        let proxy = Proxy::start(upstream).await;
        let address: &'static str = format!("postgres://127.0.0.1:{}", proxy.port).leak();
        let host = Host::start("freeze", None, &[("SPIN_VARIABLE_PG_ADDRESS", address)]).await;
        let http = client();
        let place = async || {
            let key = format!("freeze-{run}-{}", fastrand::u64(..));
            let body = r#"{"customerId":"c","currency":"RUB","items":[{"sku":"S","quantity":1,"unitAmount":1}]}"#;
            let request = http.post(format!("{}/orders", host.url)).header("Idempotency-Key", key);
            request.header("Content-Type", "application/json").body(body).send().await.unwrap().status().as_u16()
        };
        let warm: Vec<_> = stream::iter(0..8 * before).map(|_| place()).buffer_unordered(before).collect().await;
        assert!(warm.iter().all(|status| *status == 201), "{warm:?}");

        proxy.freeze();
        let frozen = Instant::now();
        let takes_by_failure = AtomicUsize::new(proxy.takes());
        let client = async |_| {
            let mut seen = Vec::new();
            while proxy.takes() < takes_by_failure.load(Ordering::SeqCst) + WELL && frozen.elapsed() < limit {
                let sent = Instant::now();
                let status = place().await;
                if status != 201 {
                    takes_by_failure.store(proxy.takes(), Ordering::SeqCst);
                }
                seen.push(Seen { status, ended: frozen.elapsed(), took: sent.elapsed() });
            }
            seen
        };
        let seen = stream::iter(0..clients).map(client).buffer_unordered(clients).collect::<Vec<_>>().await;
        let seen: Vec<_> = seen.into_iter().flatten().collect();
        let failed: Vec<_> = seen.iter().filter(|seen| seen.status != 201).collect();
        let last = failed.iter().map(|seen| seen.ended).max().unwrap_or_default();
        let longest = seen.iter().map(|seen| seen.took).max().unwrap_or_default();
        println!(
            "freeze: {before} clients, then {clients} when the path froze: {} of {} requests failed, \
             the last one after {:.1} s; the longest took {:.1} s",
            failed.len(),
            seen.len(),
            last.as_secs_f64(),
            longest.as_secs_f64()
        );
        assert!(failed.iter().all(|seen| seen.status == 503));
        assert!(failed.len() <= before, "{}", failed.len());
        assert!((SHORTEST..LONGEST).contains(&longest) && last < limit, "{longest:?}, {last:?}");
        assert_eq!(host.traps(), Vec::<String>::new());
    }
}
