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
    /// A drain looks for commands that others left, or claims one: it is not old enough, or another drain has just claimed it.
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
    /// Its caller is gone, and it never arrives at the store.
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
    /// An entry expires while a request relies on it.
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
    /// The removal was not written to its disk.
    RedisForgetsARemoval {
        command: usize,
    },
    PostgresRestarts,
    // At the end.
    /// Every entry that can expire has expired.
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
