//! The streams.

use order::intake::{Command, CommandId, Overdue};

use super::{Stores, Values};
use crate::wire::{Call, Reply};

impl Stores {
    /// They do each call at one moment.
    pub(super) fn stream(&mut self, values: &mut Values, call: Call) -> Reply {
        let command = |id: CommandId| values.commands.iter().position(|command| command.id == id).unwrap();
        match call {
            Call::Next if self.given == values.commands.len() => Reply::Command(None),
            Call::Next => {
                self.pending.push((self.given, 1));
                self.given += 1;
                Reply::Command(Some(values.commands[self.given - 1].clone()))
            }
            Call::Overdue(after) => {
                let overdue = self
                    .pending
                    .iter()
                    .filter(|(at, _)| Some(values.commands[*at].id) > after)
                    .map(|(at, deliveries)| Overdue { id: values.commands[*at].id, deliveries: *deliveries });
                Reply::Overdue(overdue.collect())
            }
            Call::Claim(id, deliveries) => {
                let at = command(id);
                let mut pending = self.pending.iter_mut();
                Reply::Command(pending.find(|(pending, _)| *pending == at).map(|pending| {
                    pending.1 = deliveries + 1;
                    Command { deliveries: pending.1, ..values.commands[at].clone() }
                }))
            }
            Call::AddResult(result) => {
                let result = values.results.id(result);
                let at = self.results.partition_point(|other| *other < result);
                self.results.insert(at, result);
                Reply::Done
            }
            Call::Remove(id) => {
                let at = command(id);
                self.pending.retain(|(pending, _)| *pending != at);
                Reply::Done
            }
            call => unreachable!("{call:?} is for no stream"),
        }
    }
}
