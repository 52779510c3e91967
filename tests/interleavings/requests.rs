//! The service's own code, as a function: what a request asks next depends on the replies it had, and on nothing else.
//! So each course of replies is run once, from the start, and a request's state is a number.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use chrono::DateTime;
use http::{Request, Response};
use order::api::{Backends, Received, respond};
use order::client::Clients;
use order::intake::{answer, drain};
use order::trace::{Note, Outcome};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::designs;
use crate::stores::{Id, Table, Values};
use crate::wire::Wire;
use crate::world::{Attempt, State};

/// What a client or an instance does, again and again until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `POST /orders` under the one key of every case. A client without a name calls an open service. In a group: its order
    /// first goes into a statement with others.
    Places { client: &'static str, order: &'static str, in_group: bool },
    /// `PATCH` of the order that was placed.
    Changes { if_match: &'static str, to: &'static str },
    /// `GET /orders`.
    Lists,
    /// An instance that works the stream off.
    Drains,
    /// As `Places`, by another design.
    Tries { design: &'static str, client: &'static str, order: &'static str },
    /// As `Drains`, by another design.
    Works { design: &'static str },
}

impl Role {
    /// Whose key it is. A drain has commands of the open service.
    pub fn client(&self) -> &'static str {
        self.places().map_or("", |(client, _)| client)
    }

    /// Whose order it places, and which.
    pub fn places(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Places { client, order, .. } | Self::Tries { client, order, .. } => Some((client, order)),
            _ => None,
        }
    }

    pub fn is_consumer(&self) -> bool {
        matches!(self, Self::Drains | Self::Works { .. })
    }

    /// The design that it follows, if that is not ours.
    pub fn design(&self) -> Option<&'static str> {
        match self {
            Self::Tries { design, .. } | Self::Works { design } => Some(design),
            _ => None,
        }
    }
}

/// A request as its client sends it. A retry has an id and a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub role: Role,
    pub client: u8,
    pub attempt: u8,
    /// The order that it is about.
    pub order: Option<Uuid>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    pub is_replay: Option<bool>,
    pub etag: String,
    pub location: String,
    pub outcome: Option<Outcome>,
    pub problem: Option<&'static str>,
    pub body: Bytes,
}

/// A request after some replies.
struct Course {
    sent: Sent,
    /// Which call, and what came back.
    replies: Vec<(u8, Id)>,
    calls: Vec<Id>,
    seen: Option<Id>,
}

/// Every course that was taken, by number.
#[derive(Default)]
pub struct Requests {
    courses: Vec<Course>,
    first: HashMap<(u8, u8, Option<Uuid>), Id>,
    next: HashMap<(Id, u8, Id), Id>,
    pub seen: Table<Seen>,
}

impl Requests {
    pub fn begin(&mut self, values: &mut Values, sent: Sent) -> Id {
        let known = (sent.client, sent.attempt, sent.order);
        if let Some(course) = self.first.get(&known) {
            return *course;
        }
        let course = self.run(values, sent, Vec::new());
        self.first.insert(known, course);
        course
    }

    /// Goes on with a reply to one of its calls.
    pub fn go_on(&mut self, values: &mut Values, course: Id, call: u8, reply: Id) -> Id {
        if let Some(next) = self.next.get(&(course, call, reply)) {
            return *next;
        }
        let before = &self.courses[usize::from(course)];
        let (sent, calls) = (before.sent, before.calls.clone());
        let replies = before.replies.iter().copied().chain([(call, reply)]).collect();
        let next = self.run(values, sent, replies);
        assert!(self.calls(next).starts_with(&calls), "the code is no function of the replies: {sent:?}");
        self.next.insert((course, call, reply), next);
        next
    }

    /// Its calls so far.
    pub fn calls(&self, course: Id) -> &[Id] {
        &self.courses[usize::from(course)].calls
    }

    /// The course that ended with this answer to this attempt.
    pub fn of_answer(&self, attempt: &Attempt) -> Option<Id> {
        let State::Answered(seen) = attempt.state else { return None };
        let is_it = |course: &Course| {
            course.seen == Some(seen) && (course.sent.client, course.sent.attempt) == (attempt.client, attempt.number)
        };
        Some(self.courses.iter().position(is_it)? as Id)
    }

    /// The answer, once there is one.
    pub fn answer(&self, course: Id) -> Option<Id> {
        self.courses[usize::from(course)].seen
    }

    fn run(&mut self, values: &mut Values, sent: Sent, replies: Vec<(u8, Id)>) -> Id {
        let wire = Wire::default();
        let mut service: Pin<Box<dyn Future<Output = Seen>>> = Box::pin(serve(sent, wire.clone()));
        let mut poll = || service.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let mut seen = poll();
        for (call, reply) in &replies {
            assert!(seen.is_pending(), "an answered request waits for a reply");
            wire.reply((*call).into(), values.replies.at(*reply).clone());
            seen = poll();
        }
        let seen = if let Poll::Ready(seen) = seen { Some(self.seen.id(seen)) } else { None };
        let calls = wire.calls().into_iter().map(|call| values.calls.id(call)).collect();
        self.courses.push(Course { sent, replies, calls, seen });
        (self.courses.len() - 1).try_into().unwrap()
    }
}

/// The service, as an instance runs it.
async fn serve(sent: Sent, wire: Wire) -> Seen {
    let clients = match sent.role {
        Role::Places { client, .. } if !client.is_empty() => named(client),
        _ => Clients::default(),
    };
    let wire = wire.in_groups(matches!(sent.role, Role::Places { in_group: true, .. }));
    let backends = Backends { clients: &clients, answers: &wire, orders: &wire };
    let number = u128::from(sent.client) * 0x1_0000 + u128::from(sent.attempt) * 0x100;
    let at = DateTime::from_timestamp_millis(1_795_435_200_000 + number as i64).unwrap();
    if let Some(design) = sent.role.design() {
        return designs::serve(design, sent.role, wire, Uuid::from_u128(number), at).await;
    }
    if sent.role == Role::Drains {
        let answer = async |command: &_| {
            let order_id = Uuid::from_u128(number + wire.calls().len() as u128);
            answer(&backends, command, at, order_id).await
        };
        drain(&wire, answer).await;
        return Seen::of(Response::default());
    }
    let (head, body) = sent.request().into_parts();
    let body =
        async { Ok(Received { body: Bytes::from_static(body.as_bytes()), at, order_id: Uuid::from_u128(number) }) };
    Seen::of(respond(Ok(&backends), &Request::from_parts(head, ()), body).await)
}

/// One client, whose token is its name.
fn named(client: &str) -> Clients {
    let digest: String = Sha256::digest(client).iter().map(|byte| format!("{byte:02x}")).collect();
    Clients::parse(&format!("{client}:{digest}")).unwrap()
}

impl Sent {
    fn request(self) -> Request<&'static str> {
        let order = || format!("/orders/{}", self.order.expect("an order to change"));
        match self.role {
            Role::Places { client, order, .. } => Request::post("/orders")
                .header("Idempotency-Key", "k")
                .header("Content-Type", "application/json")
                .header("Authorization", format!("Bearer {client}"))
                .body(order),
            Role::Changes { if_match, to } => Request::patch(order())
                .header("If-Match", if_match)
                .header("Content-Type", "application/merge-patch+json")
                .body(to),
            Role::Lists => Request::get("/orders").body(""),
            _ => unreachable!("{:?} is no request", self.role),
        }
        .unwrap()
    }
}

impl Seen {
    fn of(mut response: Response<Bytes>) -> Self {
        let note = Note::on(&mut response).clone();
        let text = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        Self {
            status: response.status().as_u16(),
            is_replay: response.headers().get("idempotent-replayed").map(|value| value == "true"),
            etag: text("etag"),
            location: text("location"),
            outcome: note.outcome,
            problem: note.problem,
            body: response.into_body(),
        }
    }

    /// Whether its client sends the same again, because the outcome is unknown.
    pub fn is_to_be_retried(&self) -> bool {
        self.status >= 500 || matches!(self.problem, Some("idempotency-key-in-use" | "in progress"))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match (self.is_replay, self.problem) {
            (Some(false), _) => write!(f, ", the first answer"),
            (Some(true), _) => write!(f, ", a replay"),
            (None, Some(problem)) => write!(f, " {problem}"),
            (None, None) => Ok(()),
        }?;
        let order = self.location.strip_prefix("/orders/").map_or(String::new(), short);
        if order.is_empty() { Ok(()) } else { write!(f, ", order {order}") }
    }
}

/// Which request's order it is: its number, its try, and, of several orders of one try, a number.
pub fn short(id: &str) -> String {
    let number = u32::from_str_radix(&id[id.len() - 6..], 16).unwrap();
    let (request, attempt, more) = ((number >> 16) + 1, number >> 8 & 0xff, number & 0xff);
    let one = format!("{request}.{attempt}");
    if more == 0 { one } else { format!("{one}.{more}") }
}
