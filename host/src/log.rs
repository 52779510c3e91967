//! The host's log on stderr: one line per entry.

/// Logs an error on one line of stderr, however many lines it has.
pub fn log_error(what: &str, error: &wasmtime::Error) {
    eprintln!("{what}: {}", one_line(error));
}

/// An error with all its causes.
pub fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
