//! What the host says on stderr: one line for each thing.

/// One line on stderr, however many the error has.
pub fn log_error(what: &str, error: &wasmtime::Error) {
    eprintln!("{what}: {}", one_line(error));
}

/// An error with all its causes.
pub fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
