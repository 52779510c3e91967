//! What the service and the other designs ask of the stores, and what comes back.

use order::client::ClientName;
use order::idempotency::{Fingerprint, IdempotencyKey, KeyRecord};
use order::intake::{Command, CommandId, CommandResult, Overdue};
use order::order::{Order, Status};
use order::stores::{Filter, Page, Placement, StoreError};
use uuid::Uuid;

/// A client's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub client: ClientName,
    pub name: IdempotencyKey,
}

impl Key {
    pub fn new(client: &ClientName, name: &IdempotencyKey) -> Self {
        Self { client: client.clone(), name: name.clone() }
    }
}

/// A row of the table `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: Key,
    pub fingerprint: Fingerprint,
    pub order: Order,
}

/// What Redis keeps under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Record(KeyRecord),
    /// What a design keeps. If it expires, then while somebody may still rely on it.
    Text {
        text: String,
        expires: bool,
    },
}

/// Where a design writes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// Without the unique constraint.
    Orders,
    UniqueOrders,
    /// Unique by key.
    Keys,
    /// Numbered by a sequence.
    Outbox,
}

/// One call to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Get(Key),
    Set(Key, KeyRecord),
    Insert(Row),
    FindByKey(Key),
    Find(ClientName, Uuid),
    Update {
        client: ClientName,
        id: Uuid,
        versions: Vec<i64>,
        status: Status,
    },
    List(ClientName, Filter, u32),
    Ping,
    Next,
    Overdue(Option<CommandId>),
    Claim(CommandId, i64),
    AddResult(CommandResult),
    Remove(CommandId),
    // What only the designs ask.
    GetText(Key),
    SetText {
        key: Key,
        text: String,
        expires: bool,
        if_absent: bool,
    },
    /// Only if it is this text.
    Del {
        key: Key,
        only: Option<String>,
    },
    /// In a transaction: how many rows it has written before.
    Write {
        to: Relation,
        row: Row,
        transaction: Option<usize>,
    },
    Commit {
        written: usize,
    },
    Select(Relation, Key),
    SelectAfter(u8),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Entry(Option<KeyRecord>),
    Inserted(Placement),
    Record(KeyRecord),
    Order(Option<Order>),
    Page(Page),
    Command(Option<Command>),
    Overdue(Vec<Overdue>),
    Done,
    Text(Option<String>),
    /// Whether it had an effect.
    Did(bool),
    Row(Option<Row>),
    Numbered(Vec<(u8, Row)>),
    Failed(StoreError),
}

impl Call {
    /// What the caller of a call makes of it that nothing came back, or that it was told of a failure.
    pub fn failure(&self) -> Reply {
        match self {
            Self::Get(_) => Reply::Entry(None),
            _ => Reply::Failed(StoreError::Unavailable("no answer".into())),
        }
    }

    /// Whether it may have an effect without anybody to hear of it.
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Get(_) | Self::FindByKey(_) | Self::Find(..) | Self::List(..) | Self::Ping | Self::Overdue(_)
        ) && !matches!(self, Self::GetText(_) | Self::Select(..) | Self::SelectAfter(_))
            // Its session ends with its caller.
            && !matches!(self, Self::Write { transaction: Some(_), .. })
    }

    pub fn is_statement(&self) -> bool {
        matches!(self, Self::Insert(_) | Self::FindByKey(_) | Self::Find(..) | Self::Update { .. } | Self::List(..))
            || matches!(self, Self::Write { .. } | Self::Commit { .. } | Self::Select(..) | Self::SelectAfter(_))
    }
}
