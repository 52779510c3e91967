//! A real nginx in front that compresses answers and so weakens their tags.

use std::process::Stdio;

use super::support::*;

/// Passes requests to the service, and ends with the test.
struct Nginx {
    url: String,
    folder: std::path::PathBuf,
    _process: tokio::process::Child,
}

impl Nginx {
    async fn start(app: &TestApp) -> Self {
        let folder = std::env::current_dir().unwrap().join(format!("target/nginx-{}", fresh_key()));
        std::fs::create_dir_all(&folder).unwrap();
        let (port, service) = (free_port().await, &app.url);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;
            events {{}}
            http {{
                {temporary} access_log off;
                gzip on; gzip_min_length 1; gzip_types application/json application/problem+json;
                server {{
                    listen 127.0.0.1:{port};
                    location / {{ proxy_pass {service}; proxy_set_header Host $http_host; }}
                }}
            }}"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        // Debian has it in root's PATH only.
        let path = format!("{}:/usr/sbin:/usr/local/sbin", variable("PATH"));
        let mut command = tokio::process::Command::new("nginx");
        command.env("PATH", path).arg("-p").arg(&folder).arg("-c").arg(&file).stdout(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().expect("nginx is installed");
        let (url, started) = (format!("http://127.0.0.1:{port}"), std::time::Instant::now());
        while app.http.get(format!("{url}/healthz")).send().await.is_err() {
            assert!(started.elapsed().as_secs() < 10, "nginx does not start");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Self { url, folder, _process: process }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_tag_that_a_compressing_proxy_has_weakened_changes_the_order() {
    let app = TestApp::start().await;
    let nginx = Nginx::start(&app).await;
    let placed = app.place(&fresh_key(), ORDER).await;
    let url = format!("{}{}", nginx.url, placed.header("location"));

    let shown = app.http.get(&url).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(shown.headers()["content-encoding"], "gzip", "nginx compresses despite Cache-Control");
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
    // nginx does not compress a 412.
    let cancelled = app.change(placed.header("location"), "\"2\"", "cancelled").await;
    assert_eq!(cancelled.status, 200);
    let refused = change(&tag).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["etag"]), (412, &"\"3\"".parse().unwrap()));
}
