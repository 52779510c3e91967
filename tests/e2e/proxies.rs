//! A real nginx in front that compresses answers and so weakens their tags.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use super::support::*;

/// An nginx with configuration of the test's own, ended with the test.
pub struct Nginx {
    pub url: String,
    folder: std::path::PathBuf,
    process: tokio::process::Child,
}

impl Nginx {
    /// `servers` is what `http` contains, with `LISTEN` for where it listens.
    pub async fn start(servers: &str) -> Self {
        let folder = std::env::current_dir().unwrap().join(format!("target/nginx-{}", fresh_key()));
        std::fs::create_dir_all(&folder).unwrap();
        let listen = format!("127.0.0.1:{}", free_port().await);
        write_configuration(&folder, &listen, servers);
        let process = nginx(&folder).stdout(Stdio::null()).process_group(0).spawn().expect("nginx is installed");
        let nginx = Self { url: format!("http://{listen}"), folder, process };
        let (http, started) = (client(), std::time::Instant::now());
        while http.get(&nginx.url).send().await.is_err() {
            assert!(started.elapsed() < CLIENT_TIMEOUT, "nginx does not start");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        nginx
    }

    /// Other servers from now on. The requests that run are answered as before.
    pub async fn reload(&self, servers: &str) {
        write_configuration(&self.folder, self.url.strip_prefix("http://").unwrap(), servers);
        assert!(nginx(&self.folder).args(["-s", "reload"]).status().await.unwrap().success());
    }
}

fn nginx(folder: &std::path::Path) -> tokio::process::Command {
    // Debian has it in root's PATH only.
    let path = format!("{}:/usr/sbin:/usr/local/sbin", variable("PATH"));
    let mut command = tokio::process::Command::new("nginx");
    command.env("PATH", path).arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}

fn write_configuration(folder: &std::path::Path, listen: &str, servers: &str) {
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};\n")).concat();
    // Its workers are of the same user, who alone may reach this folder; without root there is no other user to be.
    let user = if std::fs::metadata(folder).unwrap().uid() == 0 { "user root;" } else { "" };
    let configuration = format!(
        "daemon off; worker_processes 1; {user} pid nginx.pid; error_log stderr crit;
        events {{}}
        http {{ {temporary} access_log off; {} }}",
        servers.replace("LISTEN", listen)
    );
    std::fs::write(folder.join("nginx.conf"), configuration).unwrap();
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker is a process of its own.
        if let Some(pid) = self.process.id() {
            let group = format!("-{pid}");
            let _ = std::process::Command::new("sh").args(["-c", "kill -KILL \"$1\"", "sh", &group]).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_tag_that_a_compressing_proxy_has_weakened_changes_the_order() {
    let app = TestApp::start().await;
    let nginx = Nginx::start(&format!(
        "gzip on; gzip_min_length 1; gzip_types application/json application/problem+json;
        server {{ listen LISTEN; location / {{ proxy_pass {}; proxy_set_header Host $http_host; }} }}",
        app.url
    ))
    .await;
    let placed = app.place(&fresh_key(), ORDER).await;
    let url = format!("{}{}", nginx.url, placed.header("location"));

    let shown = app.http.get(&url).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(shown.headers()["content-encoding"], "gzip", "nginx compresses whatever Cache-Control says");
    let tag = shown.headers()["etag"].clone();
    assert_eq!(tag, "W/\"1\"");
    let known = app.http.get(&url).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    let change = |tag: &reqwest::header::HeaderValue| {
        let request = app.http.patch(&url).header("content-type", "application/merge-patch+json");
        request.header("accept-encoding", "gzip").header("if-match", tag).body(r#"{"status":"confirmed"}"#).send()
    };
    for _ in 0..2 {
        let changed = change(&tag).await.unwrap();
        assert_eq!((changed.status().as_u16(), &changed.headers()["etag"]), (200, &"W/\"2\"".parse().unwrap()));
    }
    // nginx compresses no 412.
    let cancelled = app.change(placed.header("location"), "\"2\"", "cancelled").await;
    assert_eq!(cancelled.status, 200);
    let refused = change(&tag).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["etag"]), (412, &"\"3\"".parse().unwrap()));
}
