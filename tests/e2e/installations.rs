//! Two services side by side, and stores that are set up differently from ours.

use tokio::process::Command;

use super::support::*;

/// Its own migrated database, deleted at the end.
pub struct Database {
    name: String,
    superuser: tokio_postgres::Client,
}

impl Database {
    pub async fn create() -> Self {
        let superuser = superuser().await;
        let name = format!("orders_{}", uuid::Uuid::parse_str(&fresh_key()).unwrap().simple());
        superuser.batch_execute(&format!("CREATE DATABASE {name} OWNER orders_owner")).await.unwrap();
        let database = Self { name, superuser };
        let migrated = Command::new("scripts/migrate.sh").env("DATABASE_URL", database.url()).output().await.unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        database
    }

    pub fn url(&self) -> String {
        let url = variable("DATABASE_URL");
        format!("{}/{}", url.rsplit_once('/').unwrap().0, self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub async fn owner(&self) -> tokio_postgres::Client {
        session(&self.url()).await
    }

    pub async fn set(&self, setting: &str) {
        self.superuser.batch_execute(&format!("ALTER DATABASE {} SET {setting}", self.name)).await.unwrap();
    }

    pub async fn start(&self, variables: &[(&str, &str)]) -> TestApp {
        let variables = [&[("SPIN_VARIABLE_PG_DATABASE", self.name.as_str())], variables].concat();
        TestApp::start_with(&variables).await
    }

    pub async fn drop(self) {
        self.superuser.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.unwrap();
    }
}

#[tokio::test]
async fn two_services_share_a_redis_under_two_prefixes() {
    let database = Database::create().await;
    let (first, second) =
        (TestApp::start().await, database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", "second")]).await);
    let key = fresh_key();
    let (placed, placed_there) = (first.place(&key, ORDER).await, second.place(&key, ORDER).await);
    for answer in [&placed, &placed_there] {
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, "false"));
    }
    assert_ne!(placed.json()["orderId"], placed_there.json()["orderId"]);
    first.place(&key, ORDER).await.assert_replay_of(&placed);
    second.place(&key, ORDER).await.assert_replay_of(&placed_there);
    let other = ORDER.replace("59900", "1");
    first.place(&key, &other).await.assert_problem(422, "idempotency-key-reused");
    let names = ["order", "second"].map(|prefix| format!("{prefix}::{key}"));
    for name in names {
        assert!(!entry(&name, |entry| !entry.is_empty()).await.is_empty(), "{name}");
    }
    database.drop().await;
}

/// The protocol needs `read committed`: with a snapshot for the whole transaction, a duplicate would fail to serialize.
#[tokio::test]
async fn a_database_with_another_default_isolation_changes_nothing() {
    let database = Database::create().await;
    for isolation in ["serializable", "repeatable read"] {
        database.set(&format!("default_transaction_isolation = '{isolation}'")).await;
        let app = database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key())]).await;
        assert_placed_once(&app.place_at_once(50, &fresh_key()).await);
        // However fast the machine is: the duplicate's statement begins before the first one's commit and ends after it.
        let (key, model, first) = (fresh_key(), fresh_key(), database.owner().await);
        app.place(&model, ORDER).await;
        hold_key(&first, &key, &model).await;
        let duplicate = tokio::spawn(app.post(&key, ORDER).send());
        until_one_waits_for(&first).await;
        first.batch_execute("COMMIT").await.unwrap();
        let answer = duplicate.await.unwrap().unwrap();
        assert_eq!(answer.status(), 201, "{isolation}");
        assert_eq!(answer.headers()["idempotent-replayed"], "true", "{isolation}");
    }
    database.drop().await;
}

#[tokio::test]
async fn a_read_only_postgresql_is_unavailable_until_it_can_be_written_to() {
    let database = Database::create().await;
    let (known, prefix) = (fresh_key(), fresh_key());
    let app = database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &prefix)]).await;
    let placed = app.place(&known, ORDER).await;
    assert_eq!(placed.status, 201);
    assert!(!entry(&format!("{prefix}::{known}"), |entry| !entry.is_empty()).await.is_empty(), "no entry is written");
    database.set("default_transaction_read_only = on").await;
    // Like a restart or a failover: open sessions can still write.
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    database.superuser.execute(ended, &[&database.name]).await.unwrap();

    let (key, started) = (fresh_key(), std::time::Instant::now());
    app.place(&key, ORDER).await.assert_problem(503, "store-unavailable");
    assert!(started.elapsed() < DEADLINE, "no session is tried that cannot write: {:?}", started.elapsed());
    app.place(&known, ORDER).await.assert_replay_of(&placed);
    assert_eq!(app.get("/readyz").await.status, 503);
    database.set("default_transaction_read_only = off").await;
    let answer = app.place(&key, ORDER).await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, "false"));
    assert_eq!(app.get("/readyz").await.status, 200);
    database.drop().await;
}

#[tokio::test]
async fn a_database_that_lacks_a_migration_is_not_ready() {
    let database = Database::create().await;
    let app = database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key())]).await;
    assert_eq!(app.get("/readyz").await.status, 200);
    database.owner().await.batch_execute("DELETE FROM schema_migrations").await.unwrap();
    let readiness = app.get("/readyz").await;
    assert_eq!((readiness.status, &readiness.json()["postgres"]), (503, &"down".into()));
    database.drop().await;
}

#[tokio::test]
async fn without_a_right_a_table_or_a_column_the_service_is_unavailable_until_it_exists() {
    let database = Database::create().await;
    let (app, owner) =
        (database.start(&[("SPIN_VARIABLE_REDIS_KEY_PREFIX", &fresh_key())]).await, database.owner().await);
    let key = fresh_key();
    for (take, give_back) in [
        ("REVOKE INSERT ON orders FROM orders_service", ""),
        ("ALTER TABLE orders RENAME TO others", "ALTER TABLE others RENAME TO orders"),
        ("ALTER TABLE orders RENAME comment TO remark", "ALTER TABLE orders RENAME remark TO comment"),
        ("REVOKE USAGE ON SCHEMA public FROM orders_service", "GRANT USAGE ON SCHEMA public TO orders_service"),
    ] {
        let grants =
            "SELECT format('GRANT INSERT (%s) ON orders TO orders_service', string_agg(quote_ident(column_name), ', '))
            FROM information_schema.column_privileges
            WHERE table_name = 'orders' AND grantee = 'orders_service' AND privilege_type = 'INSERT'";
        let grant: Option<String> = owner.query_one(grants, &[]).await.unwrap().get(0);
        owner.batch_execute(take).await.unwrap();
        for answer in [app.place(&key, ORDER).await, app.place_at_once(8, &key).await.remove(0)] {
            answer.assert_problem(503, "store-unavailable");
            assert_eq!(answer.header("retry-after"), "1", "{take}");
        }
        assert_eq!(app.get("/readyz").await.status, 503, "{take}");
        owner.batch_execute(if give_back.is_empty() { grant.as_deref().unwrap() } else { give_back }).await.unwrap();
        let settled = app.place(&fresh_key(), ORDER).await;
        assert_eq!(settled.status, 201, "{take}: {}", settled.body);
    }
    assert_eq!(app.place(&key, ORDER).await.header("idempotent-replayed"), "false", "what was refused was not written");
    database.drop().await;
}

#[tokio::test]
async fn a_database_that_acknowledges_before_it_is_durable_is_not_ready() {
    let database = Database::create().await;
    database.set("synchronous_commit = off").await;
    let app = database.start(&[]).await;
    let readiness = app.get("/readyz").await;
    assert_eq!((readiness.status, &readiness.json()["postgres"]), (503, &"down".into()));
    database.set("synchronous_commit = remote_apply").await;
    assert_eq!(database.start(&[]).await.get("/readyz").await.status, 200);
    database.drop().await;
}

#[tokio::test]
async fn an_acl_user_with_a_password_full_of_punctuation_reaches_redis() {
    let redis = PrivateRedis::start().await;
    let password = r#"p@s/s:w%20o"r'd +#?&\é"#;
    let mut admin = redis.connect().await.unwrap();
    let user = ["shop@1", "reset", "on", "~shop:*", "+@all"];
    let created: redis::RedisResult<()> =
        redis::cmd("ACL").arg("SETUSER").arg(&user).arg(format!(">{password}")).query_async(&mut admin).await;
    created.unwrap();
    let off: redis::RedisResult<()> =
        redis::cmd("ACL").arg("SETUSER").arg(&["default", "off"]).query_async(&mut admin).await;
    off.unwrap();
    let app = TestApp::start_with(&[
        ("SPIN_VARIABLE_REDIS_ADDRESS", &redis_address(redis.port)),
        ("SPIN_VARIABLE_REDIS_USER", "shop@1"),
        ("SPIN_VARIABLE_REDIS_PASSWORD", password),
        ("SPIN_VARIABLE_REDIS_KEY_PREFIX", "shop:orders"),
    ])
    .await;
    let key = fresh_key();
    let placed = app.place(&key, ORDER).await;
    assert_eq!(placed.status, 201);
    let (name, started) = (format!("shop:orders::{key}"), std::time::Instant::now());
    while !redis::cmd("EXISTS").arg(&name).query_async::<bool>(&mut admin).await.unwrap() {
        assert!(started.elapsed() < CLIENT_TIMEOUT, "no entry is written");
    }
    assert_eq!(app.get("/readyz").await.json()["redis"], "up");
}

/// Its own role, since a role's password applies to the whole server.
#[tokio::test]
async fn a_role_with_a_password_full_of_punctuation_reaches_postgresql() {
    let superuser = superuser().await;
    let (role, password) = (format!("shop@{}", &fresh_key()[..8]), r#"p@s/s:w%20o"r'd =+#?&\é"#);
    let quoted = password.replace('\'', "''");
    superuser
        .batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{quoted}' IN ROLE orders_service"))
        .await
        .unwrap();
    superuser.batch_execute(&format!("GRANT CONNECT ON DATABASE orders TO \"{role}\"")).await.unwrap();
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_USER", &role), ("SPIN_VARIABLE_PG_PASSWORD", password)]).await;
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
    drop(app);
    superuser.batch_execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await.unwrap();
}

#[tokio::test]
async fn a_setting_that_does_not_parse_makes_only_the_orders_unavailable() {
    let app = TestApp::start_with(&[("SPIN_VARIABLE_PG_DEADLINE_MS", "soon")]).await;
    for path in ["/", "/healthz", "/openapi.yaml", "/problems/"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    let readiness = app.get("/readyz").await;
    assert_eq!((readiness.status, &readiness.json()["status"]), (503, &"unavailable".into()));
    let key = fresh_key();
    app.place(&key, ORDER).await.assert_problem(500, "internal");
    app.get("/orders").await.assert_problem(500, "internal");
    assert_eq!(rows_of(&key).await, 0);
}

/// The bundled host has no TLS; a setting that asks for it is an error at start, not at the first request.
#[tokio::test]
async fn the_bundled_host_refuses_tls_at_start() {
    if is_spin() {
        println!("Spin has TLS");
        return;
    }
    for (name, value) in [
        ("SPIN_VARIABLE_REDIS_ADDRESS", "rediss://127.0.0.1:6380"),
        ("SPIN_VARIABLE_PG_SSLMODE", "require"),
        ("SPIN_VARIABLE_PG_SSLMODE", "prefer"),
        ("SPIN_VARIABLE_PG_CA", "-----BEGIN CERTIFICATE-----"),
    ] {
        let mut host = Command::new("target/host/order-host");
        host.args(["--listen", "127.0.0.1:0"]).env(name, value).kill_on_drop(true);
        let started = tokio::time::timeout(CLIENT_TIMEOUT, host.output()).await;
        let output = started.expect("it ends by itself").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("TLS, which needs Spin"), "{name}={value}: {said}");
    }
}

/// Kubernetes adds variables named after the bundle's Services to the pod, and the shim prefers a variable with a setting's
/// name to the setting.
#[tokio::test]
async fn the_services_of_the_cluster_shadow_no_setting() {
    let output = Command::new("scripts/service-links.sh").arg("env").output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let injected: Vec<_> = lines.lines().map(|line| line.split_once('=').unwrap()).collect();
    assert!(injected.iter().any(|(name, value)| *name == "ORDER_REDIS_PORT" && value.starts_with("tcp://")), "{lines}");
    let app = TestApp::start_with(&injected).await;
    assert_eq!(app.place(&fresh_key(), ORDER).await.status, 201);
    assert_eq!(app.get("/readyz").await.json()["status"], "ready");
}
