//! A client that places one order per key, whatever gets lost. Copy this file. It needs fastrand, httpdate, percent-encoding,
//! reqwest with its features blocking and json, `serde_json`, thiserror, and uuid with its feature v4.
//!
//! It keeps nothing itself. Store the key and the order in `pending`, which runs before the first attempt, and delete them
//! once `place_order` returns or fails with `Refused`. After `GaveUp` or a crash, place the same order with the same key.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, blocking, redirect};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An answer that sending again does not change: its status, the problem's name, such as invalid-order, and the problem.
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
        Ok(self.send(self.request(Method::POST, "/orders").header("Idempotency-Key", key).json(order))?.0)
    }

    /// Returns the changed order, or fails with `Moved`. The version is the key: sending it again is safe.
    pub fn change_order(&self, id: &str, version: u64, status: &str) -> Result<Value, Failure> {
        let path = format!("/orders/{id}");
        let request = self.request(Method::PATCH, &path).header("If-Match", format!("\"{version}\""));
        let request = request.header("Content-Type", "application/merge-patch+json").json(&json!({ "status": status }));
        match self.send(request) {
            Err(Failure::Refused(412, ..)) => Err(Failure::Moved(self.send(self.request(Method::GET, &path))?.0)),
            sent => Ok(sent?.0),
        }
    }

    /// The orders, newest first. Filters are customerId, status and idempotencyKey.
    pub fn orders(&self, filters: &[(&str, &str)]) -> impl Iterator<Item = Result<Value, Failure>> {
        let pair = |(name, value): (&str, &str)| format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        let filters: String = filters.iter().copied().map(pair).collect();
        let mut next = Some(String::new());
        let request = move |cursor: String| self.request(Method::GET, &format!("/orders?limit=100{filters}{cursor}"));
        let page = move || match self.send(request(next.take()?)) {
            Ok((page, ..)) => {
                next = page["nextCursor"].as_str().map(|cursor| pair(("cursor", cursor)));
                Some(page["orders"].as_array().into_iter().flatten().cloned().map(Ok).collect())
            }
            Err(failure) => Some(vec![Err(failure)]),
        };
        std::iter::from_fn(page).flatten() // an empty page need not be the last one
    }

    /// Each page of the feed with the cursor after it, without end; an empty page is up to date. Keep both together.
    /// On `Refused` with cursor-expired begin without a cursor, and drop the orders that do not come again.
    pub fn events(&self, after: Option<&str>) -> impl Iterator<Item = Result<(Value, String), Failure>> {
        let (mut query, mut pause) = (after.map(|after| format!("&after={after}")).unwrap_or_default(), Duration::ZERO);
        std::iter::repeat_with(move || {
            (self.sleep)(pause);
            let (page, link, asked) = self.send(self.request(Method::GET, &format!("/events?limit=100{query}")))?;
            // Not the whole link, which may lead the token elsewhere.
            let after = link.split_once("after=").and_then(|(_, after)| after.split(['&', '>']).next());
            let refused = || Failure::Refused(200, "about:blank".into(), json!({ "detail": "no Link with a cursor" }));
            let after = after.ok_or_else(refused)?.to_owned();
            query = format!("&after={after}");
            pause = if page == json!([]) { asked.max(Duration::from_secs(1)) } else { Duration::ZERO };
            Ok((page, after))
        })
    }

    fn request(&self, method: Method, path: &str) -> blocking::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url.trim_end_matches('/')));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Sends the same bytes until an answer settles it. Returns its JSON, its Link and its Retry-After.
    fn send(&self, request: blocking::RequestBuilder) -> Result<Answer, Failure> {
        let (mut left, mut grown) = (self.total, Duration::from_millis(250));
        loop {
            let started = Instant::now();
            let attempt = request.try_clone().ok_or_else(|| Failure::GaveUp("invalid URL or header".into()))?;
            let (cause, asked) = match attempt.timeout(left.min(self.attempt)).send().and_then(read) {
                Ok((200..300, answer)) if !answer.0.is_null() => return Ok(answer),
                Ok((status, (problem, _, asked))) => {
                    let kind = problem["type"].as_str().unwrap_or("about:blank").rsplit('/').next().unwrap_or_default();
                    if !matches!(status, 200..300 | 408 | 429 | 500..) && kind != "idempotency-key-in-use" {
                        return Err(Failure::Refused(status, kind.to_owned(), problem));
                    }
                    (format!("{status} {kind}"), asked)
                }
                Err(error) => (format!("{error:?}"), Duration::ZERO), // no answer, or a cut one
            };
            let pause = asked + grown.mul_f64(0.5 + fastrand::f64() / 2.0);
            left = left.checked_sub(pause + started.elapsed()).ok_or(Failure::GaveUp(cause))?;
            grown = Duration::from_secs(10).min(2 * grown);
            (self.sleep)(pause);
        }
    }
}

type Answer = (Value, String, Duration);

fn read(answer: blocking::Response) -> reqwest::Result<(u16, Answer)> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (status, link, asked) = (answer.status().as_u16(), header("Link"), header("Retry-After"));
    let until = httpdate::parse_http_date(&asked).ok().and_then(|date| date.duration_since(SystemTime::now()).ok());
    let asked = asked.parse().map_or(until.unwrap_or_default(), |seconds: u32| Duration::from_secs(seconds.into()));
    Ok((status, (serde_json::from_str(&answer.text()?).unwrap_or_default(), link, asked)))
}
