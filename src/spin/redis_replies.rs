//! Redis' own refusals of a command, in the words of the `redis` crate, which are all that Spin's host passes on.
//! No SDK here: `tests/stores/` checks this against a real Redis.

/// How the crate begins an error with a code that it knows. For others it gives the code itself, as in `OOM: command not allowed`.
const KNOWN_CODE: &str = "An error was signalled by the server";

/// Whether the connection can be kept: Redis has answered, and another connection would lead to the same server.
/// A server that became a replica has answered too, but a new connection may lead to its successor.
pub fn keeps_connection(error: &str) -> bool {
    if let Some(kind) = error.strip_prefix(KNOWN_CODE) {
        let kind = kind.trim_start_matches([' ', '-']);
        return !kind.starts_with("ReadOnly") && !kind.starts_with("MasterDown");
    }
    let is_code = |code: &str| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
    error.split_once(": ").is_some_and(|(code, _)| is_code(code))
}
