//! The one table of routes. Routing, `405` with its `Allow`, which paths are for clients, which headers are fetched from the
//! host and what the log calls a path all follow from it.

use http::{HeaderName, Method, header};

use super::IDEMPOTENCY_KEY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    ShowHome,
    ShowContract,
    ListProblems,
    ShowProblem,
    ListOrders,
    CreateOrder,
    ShowOrder,
    PatchOrder,
    ListEvents,
    ShowHealth,
    ShowReadiness,
}

/// A method, what it does, and the headers that are read for it: each one fetched costs a host call, and proxies add many.
/// `HEAD` is answered wherever `GET` is.
type OnMethod = (&'static str, Action, &'static [HeaderName]);

pub(super) struct Route {
    /// The path or its pattern: braces at its end match any one segment.
    template: &'static str,
    /// Whether only clients may call it, if the service has clients. This covers everything under its first segment.
    is_for_clients: bool,
    methods: &'static [OnMethod],
}

static NO_HEADERS: [HeaderName; 0] = [];
static TAG: [HeaderName; 1] = [header::IF_NONE_MATCH];
static TAGS: [HeaderName; 2] = [header::IF_MATCH, header::IF_NONE_MATCH];
static PLACING: [HeaderName; 4] =
    [header::CONTENT_TYPE, IDEMPOTENCY_KEY, header::CONTENT_ENCODING, header::CONTENT_LENGTH];
static CHANGING: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::IF_MATCH, header::CONTENT_ENCODING, header::CONTENT_LENGTH];
static AUTHORIZATION: HeaderName = header::AUTHORIZATION;

static ROUTES: [Route; 10] = [
    open("/", &[("GET", Action::ShowHome, &TAG)]),
    open("/openapi.yaml", &[("GET", Action::ShowContract, &TAG)]),
    open("/problems", &[("GET", Action::ListProblems, &TAG)]),
    open("/problems/", &[("GET", Action::ListProblems, &TAG)]),
    open("/problems/{slug}", &[("GET", Action::ShowProblem, &TAG)]),
    for_clients("/orders", &[("GET", Action::ListOrders, &NO_HEADERS), ("POST", Action::CreateOrder, &PLACING)]),
    for_clients("/orders/{orderId}", &[("GET", Action::ShowOrder, &TAGS), ("PATCH", Action::PatchOrder, &CHANGING)]),
    for_clients("/events", &[("GET", Action::ListEvents, &NO_HEADERS)]),
    open("/healthz", &[("GET", Action::ShowHealth, &NO_HEADERS)]),
    open("/readyz", &[("GET", Action::ShowReadiness, &NO_HEADERS)]),
];

const fn open(template: &'static str, methods: &'static [OnMethod]) -> Route {
    Route { template, is_for_clients: false, methods }
}

const fn for_clients(template: &'static str, methods: &'static [OnMethod]) -> Route {
    Route { template, is_for_clients: true, methods }
}

impl Route {
    /// The route of a path, and the segment that matches its braces.
    pub(super) fn of(path: &str) -> Option<(&'static Self, &str)> {
        ROUTES.iter().find_map(|route| Some((route, route.segment(path)?)))
    }

    fn segment<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.template.split_once('{') {
            None => (path == self.template).then_some(""),
            Some((start, _)) => path.strip_prefix(start).filter(|rest| !rest.is_empty() && !rest.contains('/')),
        }
    }

    fn on(&self, method: &Method) -> Option<&OnMethod> {
        let name = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.methods.iter().find(|(known, ..)| *known == name)
    }

    pub(super) fn action(&self, method: &Method) -> Option<Action> {
        self.on(method).map(|(_, action, _)| *action)
    }

    pub(super) fn allow(&self) -> String {
        let names: Vec<_> =
            self.methods.iter().map(|(name, ..)| if *name == "GET" { "GET, HEAD" } else { name }).collect();
        names.join(", ")
    }
}

/// Whether `path` is for clients. Includes unknown paths, so that others cannot find out which ones exist.
pub(super) fn is_for_clients(path: &str) -> bool {
    let first = first_segment(path);
    ROUTES.iter().any(|route| route.is_for_clients && first_segment(route.template) == first)
}

/// `None` if the path does not begin with a slash, which only HTTP/2 allows: no route matches it.
fn first_segment(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split('/').next()
}

/// The headers that the API reads of such a request. `Authorization` only if the service has clients.
pub fn headers_read(
    method: &Method,
    path: &str,
    has_clients: bool,
) -> impl Iterator<Item = &'static HeaderName> + Clone + use<> {
    let read =
        Route::of(path).and_then(|(route, _)| route.on(method)).map_or(NO_HEADERS.as_slice(), |(.., headers)| *headers);
    let who = (has_clients && is_for_clients(path)).then_some(&AUTHORIZATION);
    read.iter().chain(who)
}

/// What the log calls a path, such as `/orders/{orderId}`; `*` for an unknown path.
pub fn route_template(path: &str) -> &'static str {
    Route::of(path).map_or("*", |(route, _)| route.template)
}
