//! The calls of the service and of the other designs to their stores, and the replies.

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
    /// What a design keeps. If it expires, it may do so while a request relies on it.
    Text {
        text: String,
        expires: bool,
    },
}

/// The table that a design writes a row to.
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
    // Calls of the other designs only.
    GetText(Key),
    SetText {
        key: Key,
        text: String,
        expires: bool,
        if_absent: bool,
    },
    /// If `only` is given: if the key has this text.
    Del {
        key: Key,
        only: Option<String>,
    },
    /// `transaction`: how many rows it has written before. None: the statement is a transaction of its own.
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
    /// The reply that the caller assumes if none arrives, or if the call fails.
    pub fn failure(&self) -> Reply {
        match self {
            Self::Get(_) => Reply::Entry(None),
            _ => Reply::Failed(StoreError::Unavailable("no answer".into())),
        }
    }

    /// Whether it may have an effect after its caller is gone.
    pub fn writes(&self) -> bool {
        match self {
            Self::Get(_) | Self::FindByKey(_) | Self::Find(..) | Self::List(..) | Self::Ping | Self::Overdue(_) => {
                false
            }
            Self::GetText(_) | Self::Select(..) | Self::SelectAfter(_) => false,
            // The session of an open transaction ends with its caller.
            Self::Write { transaction, .. } => transaction.is_none(),
            _ => true,
        }
    }

    pub fn is_statement(&self) -> bool {
        matches!(self, Self::Insert(_) | Self::FindByKey(_) | Self::Find(..) | Self::Update { .. } | Self::List(..))
            || matches!(self, Self::Write { .. } | Self::Commit { .. } | Self::Select(..) | Self::SelectAfter(_))
    }
}
