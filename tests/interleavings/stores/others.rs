//! The stores for the other designs only: texts in Redis, tables with and without a constraint, and transactions of several
//! statements.

use order::stores::StoreError;

use super::{Id, Stores, Turn, Values, insert};
use crate::wire::{Call, Entry, Key, Relation, Reply, Row};

impl Stores {
    /// What the designs keep in Redis.
    pub(super) fn text(&mut self, values: &mut Values, call: Call) -> Reply {
        let text = |key: &Key| match self.entry(values, key) {
            Some(Entry::Text { text, .. }) => Some(text.clone()),
            _ => None,
        };
        match call {
            Call::GetText(key) => Reply::Text(text(&key)),
            Call::SetText { key, text: new, expires, if_absent } => {
                let does = !if_absent || text(&key).is_none();
                if does {
                    self.set(values, key, Some(Entry::Text { text: new, expires }));
                }
                Reply::Did(does)
            }
            Call::Del { key, only } => {
                let does = only.is_none() || text(&key) == only;
                if does {
                    self.set(values, key, None);
                }
                Reply::Did(does)
            }
            call => unreachable!("{call:?} is for no text"),
        }
    }

    pub(super) fn add(&mut self, values: &Values, to: Relation, number: u8, id: Id) {
        if matches!(to, Relation::Orders | Relation::UniqueOrders) {
            let of = values.rows.at(id).order.id;
            self.rows.retain(|id| values.rows.at(*id).order.id != of);
            insert(&mut self.rows, id);
        } else {
            self.others.push((to, number, id));
            self.others.sort_unstable();
        }
    }

    fn committed<'a>(&self, values: &'a Values, to: Relation, key: &Key) -> Option<&'a Row> {
        let others = self.others.iter().filter(|(of, ..)| *of == to).map(|(.., id)| id);
        let rows = self.rows.iter().filter(|_| matches!(to, Relation::Orders | Relation::UniqueOrders)).chain(others);
        rows.map(|id| values.rows.at(*id)).find(|row| row.key == *key)
    }

    fn written(&self, who: (u8, u8)) -> usize {
        self.open.iter().filter(|(of, ..)| *of == who).count()
    }

    /// Commits a transaction, unless its session has ended.
    pub(super) fn commit_all(&mut self, values: &Values, who: (u8, u8), written: usize) -> Reply {
        if self.written(who) != written {
            return Reply::Failed(StoreError::Unavailable("the session is gone".into()));
        }
        let open = std::mem::take(&mut self.open);
        for (of, to, number, id) in open {
            if of == who {
                self.add(values, to, number, id);
            } else {
                self.open.push((of, to, number, id));
            }
        }
        Reply::Done
    }

    /// The session of an attempt ends, with its open transaction.
    pub fn roll_back(&mut self, who: (u8, u8)) {
        self.open.retain(|(of, ..)| *of != who);
    }

    /// `held`: the rows that statements of others hold.
    pub(super) fn turn_of_another<'a>(
        &self,
        values: &'a Values,
        call: &Call,
        who: (u8, u8),
        held: &mut dyn Iterator<Item = (Relation, &'a Row)>,
    ) -> Turn {
        let open = self.open.iter().filter(|(of, ..)| *of != who).map(|(_, to, _, row)| (*to, values.rows.at(*row)));
        let mut held = held.chain(open);
        match call {
            Call::Write { transaction: Some(written), .. } if self.written(who) != *written => {
                Turn::Done(Reply::Failed(StoreError::Unavailable("the session is gone".into())))
            }
            Call::Write { to, row, transaction } => {
                let is_unique = matches!(to, Relation::UniqueOrders | Relation::Keys);
                let is_same = |(other, held): (Relation, &Row)| other == *to && held.key == row.key;
                if is_unique && held.any(is_same) {
                    Turn::Waits
                } else if is_unique && self.committed(values, *to, &row.key).is_some() {
                    Turn::Done(Reply::Did(false))
                } else if transaction.is_some() {
                    Turn::Wrote(*to, row.clone())
                } else {
                    Turn::Holds(row.clone())
                }
            }
            Call::Select(from, key) => Turn::Done(Reply::Row(self.committed(values, *from, key).cloned())),
            Call::SelectAfter(last) => {
                let numbered = self.others.iter().filter(|(of, number, _)| *of == Relation::Outbox && number > last);
                Turn::Done(Reply::Numbered(
                    numbered.map(|(_, number, row)| (*number, values.rows.at(*row).clone())).collect(),
                ))
            }
            _ => unreachable!("{call:?} is no statement"),
        }
    }
}
