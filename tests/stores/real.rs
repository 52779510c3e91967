//! The real Redis and PostgreSQL, each behind a proxy, called natively with the component's settings, record and
//! statements. `tests/e2e/` tests the glue that calls them through Spin.

use order::client::ClientName;
use order::idempotency::IdempotencyKey;
use order::order::Order;
use order::settings::Settings;
use order::stores::{AnswerCache, OrderStore};

use super::laws::{SharedStores, Stores, Transactions, Write};
use super::postgres_orders::{PostgresOrders, Transaction};
use super::proxy::Proxy;
use super::redis_answers::RedisKeys;

pub struct RealStores {
    keys: RedisKeys,
    orders: PostgresOrders,
    proxies: [Proxy; 2],
    /// The address that other writers use, which is never cut off.
    others: PostgresOrders,
}

/// A value from the environment, or the default of `spin.toml`.
pub fn variable(name: &str) -> String {
    std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).unwrap_or_else(|_| match name {
        "redis_user" | "redis_password" | "pg_ca" | "clients" => String::new(),
        "redis_key_prefix" => "laws".to_owned(),
        "pg_sslmode" => "disable".to_owned(),
        "key_retention_seconds" => "600".to_owned(),
        "redis_deadline_ms" => "5000".to_owned(),
        // A slow machine must not fail a test. A test of a lock waits for 60 % of it.
        "pg_deadline_ms" => "10000".to_owned(),
        "body_deadline_ms" => "10000".to_owned(),
        _ => panic!("{name} has no value; run this through `make test`"),
    })
}

pub fn settings(redis_address: &str, pg_address: &str) -> Settings {
    let value = |name: &str| match name {
        "redis_address" => redis_address.to_owned(),
        "pg_address" => pg_address.to_owned(),
        name => variable(name),
    };
    Settings::parse(|name| Ok(value(name))).unwrap()
}

impl RealStores {
    /// With another option in its sessions.
    pub async fn start_with(option: &str) -> Self {
        let mut stores = Self::start(false).await;
        stores.orders.set_option(option);
        stores
    }

    pub async fn start(in_groups: bool) -> Self {
        let [redis, postgres] = [variable("redis_address"), variable("pg_address")];
        let upstream = |address: &str| address.split_once("://").expect("scheme://host:port").1.to_owned();
        let proxies = [Proxy::start(upstream(&redis)).await, Proxy::start(upstream(&postgres)).await];
        let [redis_port, pg_port] = [proxies[0].port, proxies[1].port];
        let own = settings(&format!("redis://127.0.0.1:{redis_port}"), &format!("postgres://127.0.0.1:{pg_port}"));
        Self {
            keys: RedisKeys::new(&own),
            orders: PostgresOrders::new(&own, in_groups),
            proxies,
            others: PostgresOrders::new(&settings(&redis, &postgres), in_groups),
        }
    }
}

impl Stores for RealStores {
    fn answers(&self) -> &impl AnswerCache {
        &self.keys
    }

    fn orders(&self) -> &impl OrderStore {
        &self.orders
    }

    async fn entry(&self, client: &ClientName, key: &IdempotencyKey) -> Option<Vec<u8>> {
        self.keys.get(client, key).await.unwrap()
    }

    async fn set_entry(&self, client: &ClientName, key: &IdempotencyKey, entry: Option<&[u8]>) {
        match entry {
            Some(entry) => self.keys.set(client, key, entry).await.unwrap(),
            None => self.keys.delete(client, key).await.unwrap(),
        }
    }

    async fn place_many(&self, client: &ClientName, orders: &[Order]) {
        self.others.place_many(client, orders).await;
    }

    fn set_reachable(&self, is_reachable: bool) {
        self.proxies.iter().for_each(if is_reachable { Proxy::pass } else { Proxy::refuse });
    }
}

impl SharedStores for RealStores {
    type Held = Transaction;

    async fn begin(&self, client: &ClientName, writes: &[Write<'_>]) -> Transaction {
        let transaction = self.others.begin().await;
        for write in writes {
            transaction.write(client, *write).await;
        }
        transaction
    }

    async fn commit(&self, held: Transaction) {
        self.others.end(held, true).await;
    }

    async fn abort(&self, held: Transaction) {
        self.others.end(held, false).await;
    }
}

impl Transactions for RealStores {
    type Transaction = Transaction;

    async fn begin_empty(&self) -> Transaction {
        self.others.begin().await
    }

    async fn write(&self, transaction: &mut Transaction, client: &ClientName, write: Write<'_>, nested: bool) {
        match nested {
            true => transaction.write_nested(client, write).await,
            false => transaction.write(client, write).await,
        }
    }

    async fn prepare(&self, transaction: &mut Transaction) {
        transaction.prepare().await;
    }

    async fn end(&self, transaction: Transaction, commits: bool) {
        self.others.end(transaction, commits).await;
    }
}
