//! The laws of the stores (`tests/laws/stores/`), over the stores in memory and over the real Redis and PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../in_memory/mod.rs"]
mod in_memory;
#[macro_use]
#[path = "../laws/stores/mod.rs"]
mod laws;
mod list_reads;
mod postgres_orders;
#[path = "../proxy/mod.rs"]
mod proxy;
mod real;
mod redis_answers;
mod redis_refusals;
mod schema;
mod stored_rows;
mod transactions;

/// The stores in memory that the other tests use. No call waits there, so the laws of `meanwhile` do not apply.
mod memory {
    use super::in_memory::{TestApp, redis_key};
    use super::laws::{Stores, Transactions, Write, at, changed};
    use order::client::ClientName;
    use order::idempotency::{Fingerprint, IdempotencyKey};
    use order::stores::{AnswerCache, OrderStore, StoreError};

    impl Stores for TestApp {
        fn answers(&self) -> &impl AnswerCache {
            &self.answers
        }

        fn orders(&self) -> &impl OrderStore {
            &self.orders
        }

        async fn entry(&self, client: &ClientName, key: &IdempotencyKey) -> Option<Vec<u8>> {
            self.answers.records.borrow().get(&redis_key(client, key)).cloned()
        }

        async fn set_entry(&self, client: &ClientName, key: &IdempotencyKey, entry: Option<&[u8]>) {
            let mut records = self.answers.records.borrow_mut();
            records.remove(&redis_key(client, key));
            records.extend(entry.map(|entry| (redis_key(client, key), entry.to_vec())));
        }

        fn set_reachable(&self, is_reachable: bool) {
            self.answers.is_down.set(!is_reachable);
            self.orders.failure.replace((!is_reachable).then(|| StoreError::Unavailable("it is cut off".into())));
        }
    }

    impl Transactions for TestApp {
        type Transaction = u64;

        async fn begin_empty(&self) -> u64 {
            self.orders.begin()
        }

        async fn write(&self, transaction: &mut u64, client: &ClientName, write: Write<'_>, _: bool) {
            let row = match write {
                Write::Place(key, order) => {
                    let names = (client.as_str().to_owned(), key.as_str().to_owned());
                    (names.0, names.1, Fingerprint::of(&order.placed), order.clone())
                }
                Write::Change(order, status) => {
                    let rows = self.orders.rows.borrow();
                    let (client, key, fingerprint, _) = rows.iter().find(|(.., row)| row.id == order.id).unwrap();
                    (client.clone(), key.clone(), *fingerprint, changed(order, status))
                }
            };
            self.orders.write(*transaction, row, at(1000));
        }

        async fn prepare(&self, _: &mut u64) {}

        async fn end(&self, transaction: u64, commits: bool) {
            self.orders.end(transaction, commits);
        }
    }

    async fn stores() -> TestApp {
        TestApp::default()
    }

    laws!(keys, stores);
    laws!(orders, stores);
    laws!(lists, stores);
    laws!(feed, stores);
    laws!(late_commits, stores);
}

/// Needs both stores, as `scripts/services.sh migrate` starts them and `scripts/services.sh env` names them.
mod redis_and_postgres {
    use super::real::RealStores;

    async fn stores() -> RealStores {
        RealStores::start(false).await
    }

    laws!(keys, stores);
    laws!(orders, stores);
    laws!(lists, stores);
    laws!(feed, stores);
    laws!(meanwhile, stores);
    laws!(late_commits, stores);
}

/// The same, with every order placed by the statement for several.
mod in_groups {
    use super::real::RealStores;

    async fn stores() -> RealStores {
        RealStores::start(true).await
    }

    laws!(orders, stores);
    laws!(feed, stores);
    laws!(meanwhile, stores);
    laws!(late_commits, stores);
}
