//! An upgrade from an earlier release, under load: migrate, then roll out.
//! `scripts/upgrade.sh` builds the earlier component and runs this.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::process::Command;

use crate::service::{Host, client, cut, setting, superuser, variable};

const CLIENTS: usize = 12;
/// Keys that are sent again and again, to each of the two hosts, before and after each step.
const KEYS: usize = 400;

/// The first answer to a key: the order's id and the body.
type Acknowledged = Mutex<BTreeMap<usize, (String, String)>>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the component of an earlier release; run it with scripts/upgrade.sh"]
async fn an_upgrade_under_load_loses_nothing_and_doubles_nothing() {
    let (old, seconds) = (variable("OLD_WASM"), Duration::from_secs(setting("UPGRADE_SECONDS", 4)));
    let superuser = superuser().await;
    let name = format!("upgrade_{}", fastrand::u32(..));
    superuser.batch_execute(&format!("CREATE DATABASE {name} OWNER orders_owner")).await.unwrap();
    let url = format!("{}/{name}", variable("DATABASE_URL").rsplit_once('/').unwrap().0);
    let migrate = async |variables: &[(&str, &str)]| {
        let run = Command::new("scripts/migrate.sh").env("DATABASE_URL", &url).envs(variables.iter().copied()).output();
        let run = run.await.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    migrate(&[("MIGRATIONS_DIR", &variable("OLD_MIGRATIONS"))]).await;

    // Both manifests name the same settings; only the component differs.
    let manifest = std::fs::read_to_string("spin.toml").unwrap();
    let old_manifest = "target/upgrade/spin.toml";
    let source = "target/wasm32-wasip2/release/order.wasm";
    assert!(manifest.contains(source) && Path::new(&old).is_absolute());
    std::fs::write(old_manifest, manifest.replace(source, &old)).unwrap();
    let variables: [(&str, &str); 2] =
        [("SPIN_VARIABLE_PG_DATABASE", name.clone().leak()), ("SPIN_VARIABLE_REDIS_KEY_PREFIX", name.clone().leak())];
    let mut hosts = Vec::new();
    for host in ["upgrade-1", "upgrade-2"] {
        hosts.push(Host::start_manifest(old_manifest, host, None, &variables).await);
    }

    let urls: Vec<_> = hosts.iter().map(|host| host.url.clone()).collect();
    let http = client();
    let (acknowledged, over) = (Acknowledged::default(), AtomicBool::new(false));
    let [requests, unknown] = [const { AtomicUsize::new(0) }; 2];
    let place = async |url: &str, key: usize| {
        let order = format!(
            r#"{{"customerId":"c","currency":"RUB","items":[{{"sku":"S-{key}","quantity":1,"unitAmount":1}}]}}"#
        );
        let request = http.post(format!("{url}/orders")).header("Idempotency-Key", format!("key-{key}"));
        let request = request.header("Content-Type", "application/json").body(order);
        let answer = request.send().await.map_err(cut).ok()?;
        let (status, location) = (answer.status().as_u16(), answer.headers().get("location").cloned());
        let body = answer.text().await.map_err(cut).ok()?;
        // Any other answer leaves the outcome open: a store is busy, or the host ended.
        assert!(matches!(status, 201 | 409 | 503) || body.is_empty(), "{status} {body}");
        (status == 201).then(|| (location.unwrap().to_str().unwrap()["/orders/".len()..].to_owned(), body))
    };
    let client = async |number: usize| {
        let mut random = fastrand::Rng::with_seed(number as u64);
        while !over.load(Ordering::SeqCst) {
            let (url, key) = (&urls[random.usize(..urls.len())], random.usize(..KEYS));
            requests.fetch_add(1, Ordering::SeqCst);
            match place(url, key).await {
                Some(answer) => {
                    let mut known = acknowledged.lock().unwrap();
                    assert_eq!(
                        *known.entry(key).or_insert_with(|| answer.clone()),
                        answer,
                        "another answer for key {key}"
                    );
                }
                None => _ = unknown.fetch_add(1, Ordering::SeqCst),
            }
        }
    };
    let upgrade = async {
        tokio::time::sleep(seconds).await;
        let said = migrate(&[]).await;
        // A release without a migration is an upgrade too.
        assert!(said.contains("applied"), "{said}");
        tokio::time::sleep(seconds).await;
        for host in &mut hosts {
            host.upgrade("spin.toml").await;
            tokio::time::sleep(seconds / 2).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    futures::join!(upgrade, futures::future::join_all((0..CLIENTS).map(client)));

    let (owner, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = owner.query("SELECT idempotency_key, order_id::text FROM orders", &[]).await.unwrap();
    let known = acknowledged.into_inner().unwrap();
    let mut stored = BTreeMap::new();
    for row in &rows {
        let key: usize = row.get::<_, &str>(0)["key-".len()..].parse().unwrap();
        assert!(stored.insert(key, row.get::<_, String>(1)).is_none(), "two orders for key {key}");
    }
    for (key, (id, _)) in known.iter() {
        assert_eq!(stored.get(key), Some(id), "the order of key {key} is lost");
    }
    println!(
        "upgrade: {} requests, {} of them without a clear answer; {} keys acknowledged, {} orders, none lost, none twice",
        requests.load(Ordering::SeqCst),
        unknown.load(Ordering::SeqCst),
        known.len(),
        rows.len()
    );
    assert!(known.len() > KEYS / 2, "{} keys", known.len());
    drop((owner, hosts));
    superuser.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
