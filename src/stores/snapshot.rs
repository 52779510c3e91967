//! PostgreSQL's snapshots, as far as the feed needs them.

use std::fmt;

/// Which transactions had ended at some moment: those below `xmax`, except the open ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// No transaction from here on had ended.
    pub xmax: u64,
    /// Those below `xmax` that were in progress, ascending.
    pub open: Vec<u64>,
}

impl Snapshot {
    /// Before all transactions.
    pub const BEGINNING: Self = Self { xmax: 1, open: Vec::new() };

    /// Reads PostgreSQL's text, `xmin:xmax:open,open`. Does not check what PostgreSQL guarantees.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':').skip(1);
        let (xmax, open) = (parts.next()?, parts.next()?);
        let open = open.split(',').filter(|xid| !xid.is_empty()).map(str::parse);
        Some(Self { xmax: xmax.parse().ok()?, open: open.collect::<Result<_, _>>().ok()? })
    }

    /// Whether it shows what this transaction has committed.
    pub fn shows(&self, xid: u64) -> bool {
        xid < self.xmax && self.open.binary_search(&xid).is_err()
    }

    /// Shows what both show.
    pub fn and(mut self, other: &Self) -> Self {
        // One by one: they are few, and the library's sort is 6 KB of the component.
        for xid in &other.open {
            if let Err(place) = self.open.binary_search(xid) {
                self.open.insert(place, *xid);
            }
        }
        self.up_to(other.xmax)
    }

    /// Shows nothing from `xmax` on.
    pub fn up_to(mut self, xmax: u64) -> Self {
        self.xmax = self.xmax.min(xmax);
        self.open.retain(|xid| *xid < self.xmax);
        self
    }
}

/// PostgreSQL's text.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.open.first().unwrap_or(&self.xmax), self.xmax)?;
        let mut comma = "";
        for xid in &self.open {
            write!(f, "{comma}{xid}")?;
            comma = ",";
        }
        Ok(())
    }
}
