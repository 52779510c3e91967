//! `OrderStore` over the real PostgreSQL, with the component's statements, each in its own session.

use chrono::DateTime;
use order::client::ClientName;
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use order::order::{Item, NewOrder, Order, Status, Timestamp};
use order::settings::Settings;
use order::stores::{
    Event, Events, Filter, OrderStore, PAGE_BYTES, PAGE_ROWS, Page, Placement, Position, Snapshot, StoreError, Sweep,
};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Error, NoTls, Row};
use uuid::Uuid;

use super::laws::Write;

pub struct PostgresOrders {
    address: String,
    /// Whether each order is placed together with another client's, by the statement for several.
    in_groups: bool,
}

/// The values to place.
#[derive(Clone, Copy)]
struct New<'a> {
    client: &'a ClientName,
    key: &'a IdempotencyKey,
    fingerprint: Fingerprint,
    order: &'a Order,
}

impl New<'_> {
    /// In the form that `jsonb_to_recordset` reads.
    fn to_json(self) -> Value {
        let placed = &self.order.placed;
        let fingerprint: String = self.fingerprint.0.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "order_id": self.order.id, "idempotency_key": self.key.as_str(), "fingerprint": format!("\\x{fingerprint}"),
            "customer_id": placed.customer_id, "currency": placed.currency, "items": placed.items,
            "comment": placed.comment, "total_amount": placed.total_amount,
            "created_at_ms": self.order.created_at.timestamp_millis(), "client": self.client.as_str(),
        })
    }
}

impl PostgresOrders {
    pub fn new(settings: &Settings, in_groups: bool) -> Self {
        Self { address: settings.pg_address.clone(), in_groups }
    }

    pub fn set_option(&mut self, option: &str) {
        self.address = self.address.replace("options='", &format!("options='{option} "));
    }

    pub async fn session(&self) -> Result<Client, Error> {
        let (client, connection) = tokio_postgres::connect(&self.address, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// For the statements of a test itself, which may take any time.
    pub async fn patient_session(&self) -> Client {
        let session = self.session().await.unwrap();
        session.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").await.unwrap();
        session
    }

    pub async fn begin(&self) -> Transaction {
        let session = self.patient_session().await;
        session.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        Transaction { session, prepared: None }
    }

    /// If it was prepared, another session ends it: its own is gone.
    pub async fn end(&self, transaction: Transaction, commits: bool) {
        let verb = if commits { "COMMIT" } else { "ROLLBACK" };
        match transaction.prepared {
            None => transaction.session.batch_execute(verb).await.unwrap(),
            Some(name) => {
                drop(transaction.session);
                self.patient_session().await.batch_execute(&format!("{verb} PREPARED '{name}'")).await.unwrap();
            }
        }
    }

    /// Which of them exist under their own ids.
    async fn are_placed(&self, all: [New<'_>; 2]) -> Result<[Placement; 2], Error> {
        let clients = all.map(|new| new.client.as_str());
        let ids = all.map(|new| new.order.id.to_string());
        let rows = self
            .session()
            .await?
            .query(include_str!("../../src/spin/sql/find_placed.sql"), &[&clients.as_slice(), &ids.as_slice()])
            .await?;
        let is_there = |new: New<'_>| rows.iter().any(|row| row.get::<_, Uuid>(0) == new.order.id);
        Ok(all.map(|new| if is_there(new) { Placement::Placed } else { Placement::KeyTaken }))
    }

    /// All in one statement.
    pub async fn place_many(&self, client: &ClientName, orders: &[Order]) {
        let json = orders.iter().enumerate().map(|(number, order)| {
            // In the sequence of the orders, which is that of the keys in the statement.
            let key = super::laws::key(&format!("{number:08}"));
            New { client, key: &key, fingerprint: Fingerprint::of(&order.placed), order }.to_json()
        });
        let (json, statement) = (Json(json.collect::<Vec<_>>()), include_str!("../../src/spin/sql/place_orders.sql"));
        let count = self.patient_session().await.execute(statement, &[&json]).await.unwrap();
        assert_eq!(count, orders.len() as u64);
    }

    /// The first of them, together with the other one.
    async fn place_together(&self, all: [New<'_>; 2]) -> Result<Placement, Error> {
        let statement = include_str!("../../src/spin/sql/place_orders.sql");
        let count = self.session().await?.execute(statement, &[&Json(all.map(New::to_json))]).await?;
        if count == 2 {
            return Ok(Placement::Placed);
        }
        let [placement, other] = self.are_placed(all).await?;
        assert_eq!(other, Placement::Placed, "no other order has its key");
        Ok(placement)
    }
}

/// An open transaction.
pub struct Transaction {
    session: Client,
    /// Its name, once it is left to the server.
    prepared: Option<String>,
}

impl Transaction {
    pub async fn write(&self, client: &ClientName, write: Write<'_>) {
        match write {
            Write::Place(key, order) => {
                let fingerprint = Fingerprint::of(&order.placed);
                assert_eq!(place_alone(&self.session, New { client, key, fingerprint, order }).await.unwrap(), 1);
            }
            Write::Change(order, status) => {
                let changed = change(&self.session, client, order.id, &[order.version], status, order.created_at).await;
                assert!(changed.unwrap().is_some());
            }
        }
    }

    /// Twice, each time in a subtransaction: the first one is rolled back.
    pub async fn write_nested(&self, client: &ClientName, write: Write<'_>) {
        self.session.batch_execute("SAVEPOINT one").await.unwrap();
        self.write(client, write).await;
        self.session.batch_execute("ROLLBACK TO one").await.unwrap();
        self.write(client, write).await;
        self.session.batch_execute("RELEASE one").await.unwrap();
    }

    pub async fn prepare(&mut self) {
        let name = Uuid::from_u128(fastrand::u128(..)).simple().to_string();
        self.session.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await.unwrap();
        self.prepared = Some(name);
    }
}

async fn place_alone(session: &Client, New { client, key, fingerprint, order }: New<'_>) -> Result<u64, Error> {
    let placed = &order.placed;
    session
        .execute(
            include_str!("../../src/spin/sql/place_order.sql"),
            &[
                &order.id,
                &key.as_str(),
                &fingerprint.0.as_slice(),
                &placed.customer_id,
                &placed.currency,
                &Json(&placed.items),
                &placed.comment,
                &placed.total_amount,
                &order.created_at.timestamp_millis(),
                &client.as_str(),
            ],
        )
        .await
}

async fn change(
    session: &Client,
    client: &ClientName,
    id: Uuid,
    versions: &[i64],
    status: Status,
    now: Timestamp,
) -> Result<Option<Order>, Error> {
    let sources: Vec<_> = status.sources().iter().map(|source| source.as_str()).collect();
    let statement = include_str!("../../src/spin/sql/change_order.sql");
    let now = now.timestamp_millis();
    let row =
        session.query_opt(statement, &[&id, &versions, &status.as_str(), &sources, &now, &client.as_str()]).await?;
    Ok(row.as_ref().map(order))
}

fn failure(error: Error) -> StoreError {
    let text = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    StoreError::of_sqlstate(error.code().map(SqlState::code), text)
}

fn order(row: &Row) -> Order {
    order_at(row, 0)
}

/// Reads its columns, starting at this one.
fn order_at(row: &Row, first: usize) -> Order {
    let Json(items): Json<Vec<Item>> = row.get(first + 3);
    Order {
        id: row.get(first),
        created_at: DateTime::from_timestamp_millis(row.get(first + 6)).unwrap(),
        placed: NewOrder {
            customer_id: row.get(first + 1),
            currency: row.get(first + 2),
            items,
            comment: row.get(first + 4),
            total_amount: row.get(first + 5),
        },
        status: Status::parse(row.get(first + 7)).unwrap(),
        version: row.get(first + 8),
    }
}

impl OrderStore for PostgresOrders {
    async fn place(
        &self,
        client: &ClientName,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        order: &Order,
    ) -> Result<Placement, StoreError> {
        let new = New { client, key, fingerprint, order };
        if self.in_groups {
            let (others, id) = (super::laws::fresh_client(), Uuid::from_u128(fastrand::u128(..)));
            let other = Order { id, ..order.clone() };
            // If the statement fails, each of the two is sent alone.
            if let Ok(placement) = self.place_together([new, New { client: &others, order: &other, ..new }]).await {
                return Ok(placement);
            }
        }
        let session = self.session().await.map_err(failure)?;
        match place_alone(&session, new).await {
            Ok(0) => Ok(Placement::KeyTaken),
            Ok(_) => Ok(Placement::Placed),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Err(StoreError::KeyInUse(error.to_string()))
            }
            Err(error) => Err(failure(error)),
        }
    }

    async fn find_by_key(&self, client: &ClientName, key: &IdempotencyKey) -> Result<KeyRecord, StoreError> {
        let statement = include_str!("../../src/spin/sql/find_by_key.sql");
        let session = self.session().await.map_err(failure)?;
        let row = session.query_opt(statement, &[&client.as_str(), &key.as_str()]).await.map_err(failure)?;
        let row = row.ok_or_else(|| StoreError::Unavailable("the key has no row".into()))?;
        let fingerprint = Fingerprint(row.get::<_, &[u8]>(9).try_into().unwrap());
        Ok(KeyRecord { fingerprint, answer: Answer::of(order(&row)) })
    }

    async fn find(&self, client: &ClientName, id: Uuid) -> Result<Option<Order>, StoreError> {
        let statement = include_str!("../../src/spin/sql/find_order.sql");
        let session = self.session().await.map_err(failure)?;
        let row = session.query_opt(statement, &[&client.as_str(), &id]).await.map_err(failure)?;
        Ok(row.as_ref().map(order))
    }

    async fn change(
        &self,
        client: &ClientName,
        id: Uuid,
        versions: &[i64],
        status: Status,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        let session = self.session().await.map_err(failure)?;
        change(&session, client, id, versions, status, now).await.map_err(failure)
    }

    async fn list(&self, client: &ClientName, filter: &Filter, limit: u32) -> Result<Page, StoreError> {
        let session = self.session().await.map_err(failure)?;
        let rows = session
            .query(
                include_str!("../../src/spin/sql/list_orders.sql"),
                &[
                    &filter.customer_id,
                    &filter.status.map(Status::as_str),
                    &filter.idempotency_key.as_ref().map(IdempotencyKey::as_str),
                    &filter.newest(),
                    &i64::from(limit),
                    &(PAGE_BYTES as i64),
                    &client.as_str(),
                    &(PAGE_ROWS as i64),
                ],
            )
            .await
            .map_err(failure)?;
        let shown = rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some());
        Ok(Page { orders: shown.map(order).collect(), next: rows[0].get(9) })
    }

    async fn events(&self, client: &ClientName, sweep: &Sweep, limit: u32) -> Result<Events, StoreError> {
        let (reading, position) = sweep.begun.as_ref().map_or((None, Position::default()), |(of, at)| (Some(of), *at));
        let session = self.session().await.map_err(failure)?;
        let rows = session
            .query(
                include_str!("../../src/spin/sql/list_events.sql"),
                &[
                    &client.as_str(),
                    &sweep.done.to_string(),
                    &reading.map(Snapshot::to_string),
                    &position.xid.to_string(),
                    &position.order_id,
                    &i64::from(limit),
                    &(PAGE_BYTES as i64),
                ],
            )
            .await
            .map_err(failure)?;
        // There is always one row, which may have only the feed's own columns.
        let found: Option<i64> = rows[0].get("found_count");
        let shown = rows.iter().filter(|_| found.is_some());
        let event = |row: &Row| Event {
            order: order_at(row, 5),
            at: DateTime::from_timestamp_millis(row.get(3)).unwrap(),
            xid: row.get::<_, &str>(4).parse().unwrap(),
        };
        let events: Vec<Event> = shown.map(event).collect();
        Ok(Events {
            epoch: rows[0].get("epoch"),
            now: Snapshot::parse(rows[0].get("now")).unwrap(),
            has_more: found.unwrap_or_default() > events.len() as i64,
            events,
        })
    }

    async fn check(&self) -> Result<(), StoreError> {
        let statement = include_str!("../../src/spin/sql/check_schema.sql");
        let session = self.session().await.map_err(failure)?;
        let row = session.query_one(statement, &[&"20261129000000_create_orders"]).await.map_err(failure)?;
        let reason = row.get::<_, Option<String>>(0).or_else(|| row.get(1));
        match reason {
            None => Ok(()),
            Some(reason) => Err(StoreError::Unavailable(reason)),
        }
    }
}
