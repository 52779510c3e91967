//! What can happen.

use crate::stores::Id;

/// One step of a schedule. Calls and attempts by their places in the world before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The client of a change learns of the order.
    Begins {
        client: u8,
    },
    TakesEffect {
        call: usize,
    },
    /// Where a drain looks for what others left, or claims it: it is not old enough, or somebody has just claimed it.
    FindsNothingOverdue {
        call: usize,
    },
    Commits {
        call: usize,
    },
    TimesOut {
        call: usize,
    },
    Answers {
        call: usize,
    },
    /// Nobody waits for it, and it never comes to the store.
    GetsLost {
        call: usize,
    },
    RedisIsBack,
    // Troubles.
    AnswerGetsLost {
        call: usize,
    },
    Aborts {
        call: usize,
    },
    InstanceDies {
        attempt: usize,
    },
    ClientLeaves {
        attempt: usize,
    },
    /// With all instances.
    HostDies,
    /// The time of an entry is over while somebody relies on it.
    Expires {
        entry: Id,
    },
    RedisForgets {
        entry: Option<Id>,
    },
    RedisRecalls {
        entry: Id,
    },
    RedisGoes,
    /// It was not written to its disk.
    RedisForgetsARemoval {
        command: usize,
    },
    PostgresRestarts,
    // At the end.
    /// The time of every entry that expires is over.
    TimePasses,
    RedisIsFlushed,
    IsRepeated {
        client: u8,
    },
}

impl Event {
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::AnswerGetsLost { .. }
                | Self::Aborts { .. }
                | Self::InstanceDies { .. }
                | Self::ClientLeaves { .. }
                | Self::HostDies
                | Self::Expires { .. }
                | Self::RedisForgets { .. }
                | Self::RedisRecalls { .. }
                | Self::RedisGoes
                | Self::RedisForgetsARemoval { .. }
                | Self::PostgresRestarts
        )
    }
}
