//! TLS to both stores, verified. Only on Spin: the bundled host has no TLS and refuses it at start. The Valkey of VALKEY=9 has
//! none either.

use std::process::Command;
use std::time::{Duration, Instant};

use super::support::*;

/// Our own authority, and the certificates that it signed for `localhost`.
struct Certificates {
    folder: std::path::PathBuf,
}

impl Certificates {
    fn make() -> Self {
        let folder = std::env::current_dir().unwrap().join(format!("target/tls-{}", fresh_key()));
        std::fs::create_dir_all(&folder).unwrap();
        let openssl = |arguments: &str| {
            let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output();
            let output = output.expect("openssl is installed");
            assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
        std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
        openssl(
            "x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem",
        );
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Enables TLS on the running server. Its superuser writes the files, which no other user could read.
async fn offer_tls(superuser: &tokio_postgres::Client, certificates: &Certificates) {
    let folder: String = superuser.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    for (setting, name) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
        let text = certificates.text(name);
        // PostgreSQL refuses a key that others may read.
        let write = format!("umask 077; rm -f {folder}/{name}; cat >{folder}/{name}");
        let copy = format!("COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) TO PROGRAM '{write}'");
        superuser.batch_execute(&copy).await.unwrap();
        superuser.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{name}'")).await.unwrap();
    }
    superuser.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let started = Instant::now();
    while superuser.query_one("SHOW ssl", &[]).await.unwrap().get::<_, String>(0) != "on" {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "PostgreSQL offers no TLS");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn orders_are_placed_over_tls_that_a_private_authority_signed() {
    if !is_spin() {
        println!("the bundled host has no TLS");
        return;
    }
    if std::env::var("VALKEY").is_ok_and(|version| !version.is_empty()) {
        println!("this Valkey has no TLS");
        return;
    }
    let tried = tokio::spawn(place_orders_over_tls()).await;
    // Whatever the outcome, the server is left as it was.
    let superuser = superuser().await;
    for reset in ["ssl", "ssl_cert_file", "ssl_key_file"].map(|name| format!("ALTER SYSTEM RESET {name}")) {
        superuser.batch_execute(&reset).await.unwrap();
    }
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    tried.unwrap();
}

async fn place_orders_over_tls() {
    let certificates = Certificates::make();
    let superuser = superuser().await;
    offer_tls(&superuser, &certificates).await;
    let redis = PrivateRedis::start_with(&[
        "--tls-port",
        "{free}",
        "--tls-cert-file",
        &certificates.path("server.pem"),
        "--tls-key-file",
        &certificates.path("server.key"),
        "--tls-ca-cert-file",
        &certificates.path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let pg_port = store_address("PG").rsplit_once(':').unwrap().1.to_owned();
    let (redis_address, pg_address) =
        (format!("rediss://localhost:{}", redis.tls_port), format!("postgres://localhost:{pg_port}"));
    let (ca, roots) = (certificates.text("ca.pem"), certificates.path("ca.pem"));
    let variables = [
        ("SPIN_VARIABLE_REDIS_ADDRESS", redis_address.as_str()),
        ("SPIN_VARIABLE_PG_ADDRESS", &pg_address),
        ("SPIN_VARIABLE_PG_SSLMODE", "require"),
        ("SPIN_VARIABLE_PG_CA", &ca),
        // For Redis, Spin uses the system's authorities; this makes ours one of them.
        ("SSL_CERT_FILE", &roots),
    ];
    let app = TestApp::start_with(&variables).await;
    let key = fresh_key();
    let placed = app.place(&key, ORDER).await;
    assert_eq!((placed.status, placed.header("idempotent-replayed")), (201, "false"), "{}", placed.body);
    app.place(&key, ORDER).await.assert_replay_of(&placed);
    assert_eq!(app.get("/readyz").await.json()["status"], "ready");
    let encrypted =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'orders_service'";
    assert!(superuser.query_one(encrypted, &[]).await.unwrap().get::<_, i64>(0) > 0);

    // No known authority signed the certificate, so it is refused.
    for mode in ["require", "prefer"] {
        let unknown =
            TestApp::start_with(&[("SPIN_VARIABLE_PG_ADDRESS", &pg_address), ("SPIN_VARIABLE_PG_SSLMODE", mode)]).await;
        unknown.place(&fresh_key(), ORDER).await.assert_problem(503, "store-unavailable");
    }
    let unknown = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address)]).await;
    assert_eq!(unknown.place(&fresh_key(), ORDER).await.status, 201);
    assert_eq!(unknown.get("/readyz").await.json()["redis"], "down");
}
