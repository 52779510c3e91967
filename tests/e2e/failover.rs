//! A PostgreSQL that is replaced by another one, or a path to it that breaks, while connections to it stay open.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::Command;

use super::support::*;

/// The size of the host's pool.
const POOL_SIZE: usize = 64;

/// A separate, migrated server with the roles and passwords of the common one: a failover leads from one to the other.
pub struct PrivatePostgres {
    port: u16,
    folder: PathBuf,
}

impl PrivatePostgres {
    pub async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let folder = std::env::current_dir().unwrap().join(format!("target/postgres-{free}"));
        std::fs::create_dir_all(&folder).unwrap();
        let password = |url: &str| url.split(['/', ':', '@']).nth(4).unwrap().to_owned();
        let passwords = format!(
            "PG_SUPERUSER_PASSWORD={}\nPG_OWNER_PASSWORD={}\nPG_SERVICE_PASSWORD={}\n",
            password(&variable("PG_SUPERUSER_URL")),
            password(&variable("DATABASE_URL")),
            variable("PG_SERVICE_PASSWORD")
        );
        std::fs::write(folder.join("passwords"), passwords).unwrap();
        let server = Self { port: free, folder };
        let started = Command::from(server.services("migrate")).output().await.unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        server
    }

    fn services(&self, what: &str) -> std::process::Command {
        let mut command = std::process::Command::new("scripts/services.sh");
        command.arg(what).env("ORDER_LOCAL_DIR", &self.folder).env("PG_PORT", self.port.to_string());
        // The common Redis does not belong to this folder, so it is left alone. In a container there would be no second server.
        command.env_remove("DATABASE_URL").env("REDIS_PORT", "1").env("DOCKER_HOST", "tcp://127.0.0.1:1");
        command
    }

    /// `kill -9`, then a start with the same data.
    pub async fn crash(&self) {
        let pid = "SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)";
        let pid: String = self.superuser().await.query_one(pid, &[]).await.unwrap().get(0);
        let kill = Command::new("kill").args(["-KILL", &pid]).status().await.unwrap();
        assert!(kill.success());
        // While one of its processes lives, no other may use the data.
        let started = Instant::now();
        while !Command::from(self.services("up")).output().await.unwrap().status.success() {
            assert!(started.elapsed() < CLIENT_TIMEOUT, "the server does not start again");
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A connection for the owner of `database`.
    pub fn url(&self, database: &str) -> String {
        let url = variable("DATABASE_URL").replace(&store_address("PG"), &self.address());
        format!("{}/{database}", url.rsplit_once('/').unwrap().0)
    }

    pub async fn superuser(&self) -> tokio_postgres::Client {
        session(&variable("PG_SUPERUSER_URL").replace(&store_address("PG"), &self.address())).await
    }

    /// Like a primary that was demoted without a restart: its open sessions change too.
    async fn set_read_only(&self, setting: &str) {
        let superuser = self.superuser().await;
        superuser.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {setting}")).await.unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // A new session has the setting, and has been told who logged in before.
        let started = Instant::now();
        let show = "SHOW default_transaction_read_only";
        while self.superuser().await.query_one(show, &[]).await.unwrap().get::<_, String>(0) != setting {
            assert!(started.elapsed() < CLIENT_TIMEOUT, "the server does not reload");
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let _ = self.services("clean").output();
    }
}

/// Places orders under these keys at the same time: their statuses, and how long the slowest took.
async fn place_each(app: &TestApp, keys: &[String]) -> (Vec<u16>, Duration) {
    let started = Instant::now();
    let answers = app.place_each(keys.iter().map(|key| (key.as_str(), ORDER))).await;
    (answers.iter().map(|answer| answer.status).collect(), started.elapsed())
}

/// The service's own sessions, as a superuser of that server sees them.
async fn sessions(superuser: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'orders_service'";
    superuser.query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits until the service keeps none of them. The process of an ended session may take a moment to exit.
async fn assert_no_session(server: &PrivatePostgres) {
    let (superuser, started) = (server.superuser().await, Instant::now());
    while sessions(&superuser).await > 0 {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "a session is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fills the pool with sessions of that server, by requests that all wait there together. It uses reads: creates share
/// a session.
async fn fill_pool(app: &TestApp, server: &PrivatePostgres) {
    let (holder, observer) = (server.superuser().await, server.superuser().await);
    holder.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let url = format!("{}/orders?limit=1", app.url);
    let sent: Vec<_> = (0..POOL_SIZE).map(|_| tokio::spawn(app.http.get(&url).send())).collect();
    let started = Instant::now();
    while sessions(&observer).await < POOL_SIZE as i64 {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "the pool does not fill");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    for answer in sent {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn sessions_that_have_become_read_only_are_left_for_the_new_primary() {
    let (old, new) = (PrivatePostgres::start().await, store_address("PG"));
    let app = TestApp::start_with(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key())]).await;
    let known = app.place(&fresh_key(), ORDER).await;
    // From the new server to the old one, as the sessions break.
    app.postgres.refuse();
    assert_eq!(app.get("/readyz").await.status, 503);
    app.postgres.lead_to(old.address());
    app.postgres.pass();

    fill_pool(&app, &old).await;
    old.set_read_only("on").await;
    let (key, started) = (fresh_key(), Instant::now());
    app.place(&key, ORDER).await.assert_problem(503, "store-unavailable");
    let refused_after = started.elapsed();
    assert!(refused_after < DEADLINE, "{refused_after:?}");
    assert_no_session(&old).await;
    assert_eq!(app.get("/readyz").await.status, 503);

    old.set_read_only("off").await;
    assert_eq!(app.place(&key, ORDER).await.status, 201);
    fill_pool(&app, &old).await;
    old.set_read_only("on").await;
    let readiness = app.get("/readyz").await;
    assert_eq!((readiness.status, &readiness.json()["postgres"]), (503, &"down".into()));
    assert_no_session(&old).await;

    old.set_read_only("off").await;
    fill_pool(&app, &old).await;
    old.set_read_only("on").await;
    app.postgres.lead_to(new);
    let change = app.http.patch(format!("{}{}", app.url, known.header("location")));
    let change = change.header("If-Match", "\"1\"").header("Content-Type", "application/merge-patch+json");
    let changed = change.body(r#"{"status":"confirmed"}"#).send().await.unwrap();
    assert_eq!(changed.status(), 200, "{}", changed.text().await.unwrap());
    let keys = fresh_keys(2 * POOL_SIZE);
    let (statuses, slowest) = place_each(&app, &keys).await;
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    for key in &keys {
        assert_eq!(rows_of(key).await, 1);
    }
    assert_eq!(app.get("/readyz").await.status, 200);
    println!(
        "failover: {POOL_SIZE} sessions became read-only: 503 after {} ms; with the new primary {} orders at once, \
         none refused, the slowest after {} ms",
        refused_after.as_millis(),
        keys.len(),
        slowest.as_millis()
    );
}

#[tokio::test]
async fn connections_that_fall_silent_cost_one_request_each() {
    let deadline = Duration::from_secs(5);
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", "5000")]).await;
    let busy = place_each(&app, &fresh_keys(16)).await;
    assert!(busy.0.iter().all(|status| *status == 201), "{busy:?}");
    app.postgres.freeze();
    let (started, mut failed) = (Instant::now(), 0);
    // Each request that meets a silent connection removes it from the pool.
    while started.elapsed() < CLIENT_TIMEOUT {
        let (statuses, slowest) = place_each(&app, &fresh_keys(16)).await;
        assert!(slowest < 2 * deadline, "{slowest:?}");
        assert!(statuses.iter().all(|status| [201, 503].contains(status)), "{statuses:?}");
        match statuses.iter().filter(|status| **status == 503).count() {
            0 => break,
            more => failed += more,
        }
    }
    assert!((1..=16).contains(&failed), "{failed}");
}
