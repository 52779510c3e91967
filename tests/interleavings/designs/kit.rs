//! Redis, PostgreSQL and a queue for the designs, with the usual calls, over the model.

use std::fmt;

use bytes::Bytes;
use order::client::ClientName;
use order::idempotency::{self, Fingerprint, IdempotencyKey};
use order::intake::{Command, CommandId, CommandResult};
pub use order::order::Order;
use order::order::{NewOrder, Timestamp};
use order::stores::StoreError;
use uuid::Uuid;

pub use crate::wire::Relation::{self, *};
use crate::wire::{Call, Key, Row, Wire, read};

pub type Result<T> = std::result::Result<T, StoreError>;

/// The stores of one request or consumer.
pub struct App {
    pub redis: Redis,
    pub postgres: Postgres,
    pub queue: Queue,
}

impl App {
    pub fn new(wire: &Wire, client: &str, id: Uuid, now: Timestamp) -> Self {
        let client = ClientName::parse(client).unwrap_or_default();
        let queue = Queue { wire: wire.clone(), id, now };
        Self { redis: Redis(wire.clone()), postgres: Postgres { wire: wire.clone(), client }, queue }
    }
}

/// An answer to a request. In Redis it is a text.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn created(order: &Order) -> Self {
        Self { status: 201, body: String::from_utf8(idempotency::Answer::of(order.clone()).body.to_vec()).unwrap() }
    }

    /// `409`: ask again.
    pub fn in_progress() -> Self {
        Self { status: 409, body: "in progress".into() }
    }

    /// `409`, and no other answer will come.
    pub fn already_exists() -> Self {
        Self { status: 409, body: "already exists".into() }
    }

    /// `503`.
    pub fn unavailable() -> Self {
        Self { status: 503, body: String::new() }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

impl From<String> for Answer {
    fn from(saved: String) -> Self {
        let (status, body) = saved.split_once(' ').unwrap();
        Self { status: status.parse().unwrap(), body: body.into() }
    }
}

pub struct Redis(Wire);

fn key(client: &ClientName, name: &str) -> Key {
    Key::new(client, &IdempotencyKey::parse(name.as_bytes()).unwrap())
}

impl Redis {
    pub async fn get(&self, name: &str) -> Result<Option<String>> {
        self.0.try_ask(Call::GetText(key(&ClientName::default(), name)), read!(Text)).await
    }

    async fn write(&self, name: &str, text: String, expires: bool, if_absent: bool) -> Result<bool> {
        let key = key(&ClientName::default(), name);
        self.0.try_ask(Call::SetText { key, text, expires, if_absent }, read!(Did)).await
    }

    /// `SET name text EX 86400`: longer than any client repeats its request.
    pub async fn set(&self, name: &str, text: impl ToString) -> Result<()> {
        self.write(name, text.to_string(), false, false).await.map(drop)
    }

    /// `SET name text NX EX 86400`
    pub async fn set_nx(&self, name: &str, text: &str) -> Result<bool> {
        self.write(name, text.into(), false, true).await
    }

    /// `SET name text NX EX 10`: the time is meant to be longer than the work takes.
    pub async fn set_nx_ex(&self, name: &str, text: &str) -> Result<bool> {
        self.write(name, text.into(), true, true).await
    }

    /// `DEL name`
    pub async fn del(&self, name: &str) -> Result<()> {
        self.delete(name, None).await
    }

    /// The script that deletes a name only if it has this text.
    pub async fn del_if(&self, name: &str, text: &str) -> Result<()> {
        self.delete(name, Some(text.into())).await
    }

    async fn delete(&self, name: &str, only: Option<String>) -> Result<()> {
        let key = key(&ClientName::default(), name);
        self.0.try_ask(Call::Del { key, only }, read!(Did)).await.map(drop)
    }
}

pub struct Postgres {
    wire: Wire,
    client: ClientName,
}

impl Postgres {
    async fn write(&self, to: Relation, name: &str, order: &Order, transaction: Option<usize>) -> Result<bool> {
        let fingerprint = Fingerprint::of(&order.placed);
        let row = Row { key: key(&self.client, name), fingerprint, order: order.clone() };
        self.wire.try_ask(Call::Write { to, row, transaction }, read!(Did)).await
    }

    /// `INSERT INTO to ... ON CONFLICT DO NOTHING`; whether a row was inserted.
    pub async fn insert(&self, to: Relation, name: &str, order: &Order) -> Result<bool> {
        self.write(to, name, order, None).await
    }

    /// `SELECT * FROM from WHERE key = name`
    pub async fn select(&self, from: Relation, name: &str) -> Result<Option<Order>> {
        let row = self.wire.try_ask(Call::Select(from, key(&self.client, name)), read!(Row)).await?;
        Ok(row.map(|row| row.order))
    }

    /// `SELECT * FROM outbox WHERE number > last ORDER BY number`
    pub async fn select_outbox_after(&self, last: u8) -> Result<Vec<(u8, Order)>> {
        let rows = self.wire.try_ask(Call::SelectAfter(last), read!(Numbered)).await?;
        Ok(rows.into_iter().map(|(number, row)| (number, row.order)).collect())
    }

    /// `BEGIN`. What is not committed is rolled back.
    pub fn begin(&self) -> Transaction<'_> {
        Transaction { postgres: self, written: 0 }
    }
}

pub struct Transaction<'a> {
    postgres: &'a Postgres,
    written: usize,
}

impl Transaction<'_> {
    /// As [`Postgres::insert`].
    pub async fn insert(&mut self, to: Relation, name: &str, order: &Order) -> Result<bool> {
        let is_new = self.postgres.write(to, name, order, Some(self.written)).await?;
        self.written += usize::from(is_new);
        Ok(is_new)
    }

    /// `COMMIT`
    pub async fn commit(self) -> Result<()> {
        self.postgres.wire.tell(Call::Commit { written: self.written }).await
    }
}

/// A queue that delivers a message until it is acknowledged.
pub struct Queue {
    wire: Wire,
    id: Uuid,
    now: Timestamp,
}

/// An order to place, under a key.
pub struct Message {
    id: CommandId,
    pub key: String,
    pub order: Order,
}

impl Message {
    /// The same at each delivery.
    pub fn id(&self) -> String {
        String::from_utf8(self.id.to_string().into_bytes()).unwrap()
    }
}

impl Queue {
    /// A new message, or else one that another consumer took and left.
    pub async fn receive(&self) -> Result<Option<Message>> {
        let mut command: Option<Command> = self.wire.try_ask(Call::Next, read!(Command)).await?;
        if command.is_none() {
            let overdue = self.wire.try_ask(Call::Overdue(None), read!(Overdue)).await?;
            if let Some(left) = overdue.first() {
                command = self.wire.try_ask(Call::Claim(left.id, left.deliveries), read!(Command)).await?;
            }
        }
        Ok(command.map(|command| self.message(&command)))
    }

    fn message(&self, command: &Command) -> Message {
        let field = |name: &[u8]| &command.fields.iter().find(|(field, _)| field == name).unwrap().1;
        let id = Uuid::from_u128(self.id.as_u128() + self.wire.calls().len() as u128);
        let order = Order::new(id, self.now, NewOrder::parse(field(b"order")).unwrap());
        Message { id: command.id, key: String::from_utf8(field(b"key").clone()).unwrap(), order }
    }

    pub async fn acknowledge(&self, message: &Message) -> Result<()> {
        self.wire.tell(Call::Remove(message.id)).await
    }

    pub async fn publish(&self, order: &Order) -> Result<()> {
        let (command, client) = (CommandId::parse(b"0-1").unwrap(), ClientName::default());
        let body = Bytes::from(Answer::created(order).body);
        self.wire
            .tell(Call::AddResult(CommandResult { command, client, key: None, status: 201, body, is_replay: false }))
            .await
    }
}
