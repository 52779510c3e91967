//! HTML for people: the first page, the problems. Each page contains its style and its script.

use std::fmt::Write;

use bytes::Bytes;
use http::Response;

use crate::problem::{Entry, Problem};

/// Only the page's own style and script run, and they may fetch only from the service itself.
/// The hashes are those of the two files; a test fails when they are stale.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    style-src 'sha256-RN5DXzgx/25BT6SQMhc5lzDje15I0k2wUb6EWdzcwtA='; script-src 'sha256-j4PTcdkUg4XCfnO5i82pTR8BSsyEv7fRpLFyR1wG3kE='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The first page.
pub fn home() -> String {
    let body = concat!(include_str!("pages/home.html"), "<script>", include_str!("pages/home.js"), "</script>\n");
    document("Order: exactly one order per Idempotency-Key", body)
}

/// The page that lists all problems, at `path`.
pub fn problem_list(path: &str) -> String {
    // Links are relative, so that they also work behind a proxy that adds a prefix.
    let base = if path.ends_with('/') { "" } else { "problems/" };
    let mut items = String::new();
    for entry in Problem::examples().iter().map(Problem::entry) {
        let Entry { slug, status, title, .. } = entry;
        let status = status.as_u16();
        let _ = writeln!(items, "<li>{status} <a href=\"{base}{slug}\">{title}</a>, <code>{slug}</code></li>");
    }
    let text = "Every refusal and failure is one of these, sent as <code>application/problem+json</code> (RFC 9457).";
    page("Problems", if base.is_empty() { "../" } else { "./" }, &format!("<p>{text}</p>\n<ul>\n{items}</ul>\n"))
}

/// The page of a problem, to which its `type` leads, if there is such a problem.
pub fn problem(slug: &str) -> Option<String> {
    let problem = Problem::examples().into_iter().find(|problem| problem.entry().slug == slug)?;
    let Entry { status, title, meaning, retry, .. } = problem.entry();
    let example = escaped(&as_sent(&problem.into_response()));
    let (meaning, retry) = (escaped(meaning), escaped(retry));
    let facts = format!(
        "<p class=\"muted\"><code>{slug}</code>, status {status}</p>\n<h2>What happened</h2>\n<p>{meaning}</p>\n\
         <h2>Can I retry?</h2>\n<p>{retry}</p>\n<h2>An example</h2>\n<pre>{example}</pre>\n"
    );
    Some(page(title, "../", &facts))
}

/// `home` is the relative link to the first page.
fn page(title: &str, home: &str, content: &str) -> String {
    let body = format!(
        "<header><nav aria-label=\"Site\"><a href=\"{home}\">Order</a> / <a href=\"{home}problems/\">Problems</a></nav></header>\n\
         <main>\n<h1>{title}</h1>\n{content}</main>\n"
    );
    document(&format!("{title}: Order"), &body)
}

fn document(title: &str, body: &str) -> String {
    let style = include_str!("pages/style.css");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn as_sent(response: &Response<Bytes>) -> String {
    let mut text = format!("HTTP/1.1 {}\n", response.status());
    for (name, value) in response.headers() {
        let _ = writeln!(text, "{name}: {}", value.to_str().unwrap_or_default());
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(response.body()));
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
