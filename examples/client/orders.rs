//! A client that places one order per key, whatever gets lost. Copy this file. It needs chrono, fastrand, percent-encoding,
//! reqwest with its feature blocking, `serde_json`, thiserror, and uuid with its feature v4.
//!
//! It keeps nothing itself. Store the key and the order in `pending`, which runs before the first attempt, and delete them
//! once `place_order` returns or fails with `Refused`. After `GaveUp` or a crash, place the same order with the same key.

use reqwest::{Method, blocking, redirect};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An answer that sending again does not change: its status, and its problem, named such as invalid-order.
    #[error("{0} {1}: {2}")]
    Refused(u16, String, Value),
    /// The order has another version than the one to change. This is the present one: decide, and change that.
    #[error("the order has moved on: {0}")]
    Moved(Value),
    /// No definite answer within the limit. The order may be placed or not: the same order with the same key settles it.
    #[error("gave up: {0}")]
    GaveUp(String),
}

type Pending = Box<dyn Fn(&str, &Value)>;

/// `attempt` limits one attempt, `total` all of them with their pauses.
pub struct Orders {
    pub url: String,
    pub token: String,
    pub attempt: Duration,
    pub total: Duration,
    pub pending: Pending,
    pub sleep: Box<dyn Fn(Duration)>,
    http: blocking::Client,
}

impl Orders {
    pub fn new(url: &str, token: &str) -> reqwest::Result<Self> {
        let http = blocking::Client::builder().redirect(redirect::Policy::none()).build()?;
        let (attempt, total, sleep) = (Duration::from_secs(20), Duration::from_secs(120), Box::new(std::thread::sleep));
        Ok(Self { url: url.into(), token: token.into(), attempt, total, pending: Box::new(|_, _| ()), sleep, http })
    }

    /// Returns the order as it was placed. The key, made here unless given, names it in all attempts.
    pub fn place_order(&self, order: &Value, key: Option<String>) -> Result<Value, Failure> {
        let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        (self.pending)(&key, order);
        let headers = [("Idempotency-Key", &*key), ("Content-Type", "application/json")];
        Ok(self.send(Method::POST, "/orders", &order.to_string(), &headers)?.0)
    }

    /// Returns the changed order, or fails with `Moved`. The version is the key: sending it again is safe.
    pub fn change_order(&self, id: &str, version: u64, status: &str) -> Result<Value, Failure> {
        let (path, version) = (format!("/orders/{id}"), format!("\"{version}\""));
        let headers = [("If-Match", &*version), ("Content-Type", "application/merge-patch+json")];
        match self.send(Method::PATCH, &path, &json!({ "status": status }).to_string(), &headers) {
            Err(Failure::Refused(412, ..)) => Err(Failure::Moved(self.send(Method::GET, &path, "", &[])?.0)),
            sent => Ok(sent?.0),
        }
    }

    /// The orders, newest first. Filters are customerId, status and idempotencyKey.
    pub fn orders(&self, filters: &[(&str, &str)]) -> impl Iterator<Item = Result<Value, Failure>> {
        let escape = |value| percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let first: String = filters.iter().map(|(name, value)| format!("&{name}={}", escape(value))).collect();
        let mut next = Some(first.clone());
        let pages = std::iter::from_fn(move || {
            let page = self.send(Method::GET, &format!("/orders?limit=100{}", next.take()?), "", &[]);
            let cursor = page.as_ref().ok().and_then(|(page, ..)| page.get("nextCursor")?.as_str());
            next = cursor.map(|cursor| format!("{first}&cursor={cursor}"));
            Some(page)
        });
        pages.flat_map(|page| match page {
            Ok((page, ..)) => {
                page.get("orders").into_iter().flat_map(Value::as_array).flatten().cloned().map(Ok).collect()
            }
            Err(failure) => vec![Err(failure)],
        }) // an empty page need not be the last one
    }

    /// Each page of the feed with the cursor after it, without end; an empty page is up to date. Keep both together.
    /// On `Refused` with cursor-expired begin without a cursor, and drop the orders that do not come again.
    pub fn events(&self, after: Option<&str>) -> impl Iterator<Item = Result<(Value, String), Failure>> {
        let (mut query, mut pause) = (after.map(|after| format!("&after={after}")).unwrap_or_default(), 0.0);
        std::iter::from_fn(move || {
            (self.sleep)(Duration::from_secs_f64(pause));
            Some(self.send(Method::GET, &format!("/events?limit=100{query}"), "", &[]).map(|(page, link, asked)| {
                pause = if page == json!([]) { f64::max(asked, 1.0) } else { 0.0 };
                // Not the whole link, which may lead the token elsewhere.
                let after = link.split("after=").nth(1).unwrap_or_default();
                let cursor = after.split(['&', '>']).next().unwrap_or_default();
                query = format!("&after={cursor}");
                (page, cursor.to_owned())
            }))
        })
    }

    /// Sends the same bytes until an answer settles it. Returns its JSON, its Link and its Retry-After.
    fn send(&self, method: Method, path: &str, body: &str, headers: &[(&str, &str)]) -> Result<Answer, Failure> {
        let request = self.http.request(method, self.url.trim_end_matches('/').to_owned() + path).body(body.to_owned());
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (mut left, mut grown) = (self.total.as_secs_f64(), 0.25);
        loop {
            let (started, limit) = (Instant::now(), Duration::from_secs_f64(left.min(self.attempt.as_secs_f64())));
            let attempt = request.try_clone().ok_or_else(|| Failure::GaveUp("this cannot be sent".to_owned()))?;
            let (cause, asked) = match attempt.timeout(limit).send().and_then(read) {
                Ok((200..300, (answer, link, asked))) if !answer.is_null() => return Ok((answer, link, asked)),
                Ok((status, (problem, _, asked))) => {
                    let kind = problem.get("type").and_then(Value::as_str).unwrap_or("about:blank");
                    let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                    if matches!(status, 300..=407 | 409..=428 | 430..500) && kind != "idempotency-key-in-use" {
                        return Err(Failure::Refused(status, kind, problem));
                    }
                    (format!("{status} {kind}"), asked)
                }
                Err(error) => (format!("{error:?}"), 0.0), // no answer, or a cut one
            };
            let pause = asked + grown * (0.5 + fastrand::f64() / 2.0);
            (left, grown) = (left - pause - started.elapsed().as_secs_f64(), f64::min(grown * 2.0, 10.0));
            if left <= 0.0 {
                return Err(Failure::GaveUp(cause));
            }
            (self.sleep)(Duration::from_secs_f64(pause));
        }
    }
}

type Answer = (Value, String, f64);

fn read(answer: blocking::Response) -> reqwest::Result<(u16, Answer)> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (status, link, asked) = (answer.status().as_u16(), header("Link"), header("Retry-After"));
    // In seconds, from a number or a date.
    let until = chrono::DateTime::parse_from_rfc2822(&asked).map_or(0, |date| date.timestamp()) as f64;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    let asked = asked.parse::<u32>().map_or((until - now).max(0.0), f64::from);
    Ok((status, (serde_json::from_str(&answer.text()?).unwrap_or_default(), link, asked)))
}
