//! A Redis that is silent for long: creates remain as fast as before.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use crate::service::{Host, Stores, client, setting};

const CLIENTS: usize = 16;
/// Each instance asks Redis once before it leaves it alone.
const FIRST: Duration = Duration::from_secs(2);
/// A create that asks Redis takes at least `redis_deadline_ms` longer.
const ASKS: Duration = Duration::from_millis(250);

/// Redis continues however the test ends: the next one needs it.
struct Silence<'a>(&'a Stores);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.continue_redis();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_are_as_fast_while_redis_is_silent() {
    let seconds = Duration::from_secs(setting("SILENCE_SECONDS", 6).max(3));
    let host = Host::start("silence", None, &[]).await;
    let http = client();
    let run = fastrand::u32(..);
    // The median duration of creates from `after` to `until`.
    let median = async |after: Duration, until: Duration| {
        let started = Instant::now();
        let client = async |number: usize| {
            let mut took = Vec::new();
            while started.elapsed() < until {
                let sent = Instant::now();
                let key = format!("silence-{run}-{number}-{}", fastrand::u64(..));
                let body = format!(
                    r#"{{"customerId":"c","currency":"RUB","items":[{{"sku":"S","quantity":1,"unitAmount":{number}}}]}}"#
                );
                let request = http.post(format!("{}/orders", host.url)).header("Idempotency-Key", key);
                let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
                assert_eq!(answer.status(), 201);
                if started.elapsed() > after {
                    took.push(sent.elapsed());
                }
            }
            took
        };
        let took = stream::iter(0..CLIENTS).map(client).buffer_unordered(CLIENTS).collect::<Vec<_>>().await;
        let mut took: Vec<_> = took.into_iter().flatten().collect();
        took.sort();
        took[took.len() / 2]
    };

    let stores = Stores::find();
    let normal = median(FIRST, FIRST + Duration::from_secs(3)).await;
    let silent = {
        stores.stop_redis();
        let _silence = Silence(&stores);
        median(FIRST, seconds).await
    };
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    println!(
        "silence: Redis stopped for {} s under {CLIENTS} clients: the median create took {:.1} ms instead of {:.1} ms",
        seconds.as_secs(),
        ms(silent),
        ms(normal)
    );
    assert!(silent < normal + ASKS / 2, "{silent:?} instead of {normal:?}");
}
