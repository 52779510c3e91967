//! A consumer of the feed in the storm: finally it has what PostgreSQL has, whatever was killed meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::service::{LONGEST, cut};

/// What a consumer keeps, in one transaction with its cursor: each order's highest version and its status.
type Table = BTreeMap<String, (i64, String)>;

pub struct Consumer {
    http: reqwest::Client,
    urls: Vec<String>,
    name: &'static str,
    token: String,
    table: Table,
    /// The paths of all pages so far; the last one is not read yet.
    paths: Vec<String>,
    events: usize,
}

impl Consumer {
    pub fn new(http: reqwest::Client, urls: Vec<String>, name: &'static str, token: String) -> Self {
        Self { http, urls, name, token, table: Table::new(), paths: vec!["/events?limit=7".to_owned()], events: 0 }
    }

    /// Reads until the storm is over. Now and then it dies before it has kept a page, or starts again from an earlier page. It
    /// confirms some of the orders, so that there are changes to read.
    pub async fn consume(mut self, mut random: fastrand::Rng, is_over: impl Fn() -> bool) -> Self {
        while !is_over() {
            let at = if random.u8(..20) == 0 { random.usize(..self.paths.len()) } else { self.paths.len() - 1 };
            let url = self.urls[random.usize(..self.urls.len())].clone();
            let Some((events, next)) = self.page(&url, &self.paths[at]).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            if random.u8(..10) == 0 {
                continue;
            }
            let created = events.iter().find(|event| event["type"] == "order.created").cloned();
            self.keep(events, at, next);
            if let Some(created) = created.filter(|_| random.bool()) {
                self.confirm(&url, created["subject"].as_str().unwrap()).await;
            }
        }
        self
    }

    /// The events and the path of the next page, if there was an answer.
    async fn page(&self, url: &str, path: &str) -> Option<(Vec<Value>, String)> {
        let answer = self.http.get(format!("{url}{path}")).bearer_auth(&self.token).send().await.map_err(cut).ok()?;
        let status = answer.status().as_u16();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let body = answer.text().await.map_err(cut).ok()?;
        assert!(matches!(status, 200 | 503) || status == 500 && body.is_empty(), "{path}: {status} {body}");
        let next = link?.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned();
        Some((serde_json::from_str(&body).unwrap(), next))
    }

    fn keep(&mut self, events: Vec<Value>, at: usize, next: String) {
        self.events += events.len();
        for event in events {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (id, order) = (text(&event["subject"]), &event["data"]);
            let change = (order["version"].as_i64().unwrap(), text(&order["status"]));
            let kept = self.table.entry(id).or_insert_with(|| change.clone());
            if change.0 > kept.0 {
                *kept = change;
            }
        }
        if at + 1 == self.paths.len() && self.paths[at] != next {
            self.paths.push(next);
        }
    }

    async fn confirm(&self, url: &str, id: &str) {
        let request =
            self.http.patch(format!("{url}/orders/{id}")).bearer_auth(&self.token).header("If-Match", "\"1\"");
        let request = request.header("Content-Type", "application/merge-patch+json");
        let _ = request.body(r#"{"status":"confirmed"}"#).send().await.map_err(cut);
    }

    /// Reads on to the end, and compares. Returns how many events it was shown, and of how many orders.
    pub async fn finish(mut self, owner: &tokio_postgres::Client) -> (usize, usize) {
        let deadline = Instant::now() + 2 * LONGEST;
        let sql = "SELECT order_id::text, version, status FROM orders WHERE client = $1";
        loop {
            let (at, url) = (self.paths.len() - 1, self.urls[0].clone());
            if let Some((events, next)) = self.page(&url, &self.paths[at]).await {
                self.keep(events, at, next);
            }
            let rows = owner.query(sql, &[&self.name]).await.unwrap();
            let rows: Table = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
            if self.table == rows {
                return (self.events, rows.len());
            }
            let missing: Vec<_> = rows.iter().filter(|(id, row)| self.table.get(*id) != Some(row)).take(3).collect();
            assert!(Instant::now() < deadline, "the consumer {} ends without {missing:?}", self.name);
        }
    }
}
