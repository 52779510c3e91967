//! What Redis itself says when it refuses a command, in the words of the `redis` crate, which are all that Spin's host gives.
//! No SDK here: `tests/stores/` holds this against a real Redis.

/// How the crate begins the codes that it knows. Of others it gives the code itself, as in `OOM: command not allowed`.
const KNOWN_CODE: &str = "An error was signalled by the server";

/// Whether the connection is as good as before: Redis has answered, and another connection would lead to the same server.
/// A server that became a replica has answered too, but a new connection may lead to its successor.
pub fn keeps_connection(error: &str) -> bool {
    if let Some(kind) = error.strip_prefix(KNOWN_CODE) {
        return !["ReadOnly", "MasterDown"]
            .iter()
            .any(|replica| kind.trim_start_matches([' ', '-']).starts_with(replica));
    }
    error
        .split_once(": ")
        .is_some_and(|(code, _)| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase()))
}
