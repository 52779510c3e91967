//! The schema itself, in separate databases: what stamps a change, what changes the feed's epoch, which schema is used.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use order::client::ClientName;
use order::idempotency::Fingerprint;
use order::order::{Order, Status};
use order::settings::Settings;
use order::stores::{Filter, OrderStore, Placement, Snapshot, StoreError, Sweep};
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use super::laws::{at, fresh_client, key, orders, record_of};
use super::postgres_orders::PostgresOrders;
use super::real::variable;

/// An order inserted by hand, as if its transaction had been another server's 9 000 000 000 000th.
const LOADED: &str =
    "INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, total_amount,
    created_at, updated_at, changed_xid)
    VALUES (gen_random_uuid(), 'loaded', sha256(''), 'c', 'RUB', '[1]', 1, now(), now(), '9000000000000')";
const IS_STAMPED: &str = "SELECT bool_and(changed_xid < pg_snapshot_xmax(pg_current_snapshot())) FROM orders";
const EPOCH: &str = "SELECT epoch FROM feed_epoch";

async fn place(store: &PostgresOrders, client: &ClientName) {
    let [order] = orders();
    let placed = store.place(client, &key("k"), Fingerprint::of(&order.placed), &order).await;
    assert_eq!(placed, Ok(Placement::Placed));
}

/// A separate database, dropped at the end.
struct Database {
    name: String,
    server: Client,
}

async fn session(url: &str, name: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&format!("{}/{name}", url.rsplit_once('/').unwrap().0), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run this through `make test`"))
}

impl Database {
    /// `how` is the rest of the CREATE DATABASE statement.
    async fn create(how: &str) -> Self {
        let server = session(&environment("PG_SUPERUSER_URL"), "postgres").await;
        let name = format!("schema_{:x}", fastrand::u64(..));
        server.batch_execute(&format!("CREATE DATABASE {name} OWNER orders_owner {how}")).await.unwrap();
        Self { name, server }
    }

    async fn migrated() -> Self {
        let database = Self::create("").await;
        database.migrate().await;
        database
    }

    /// Returns its output.
    async fn migrate(&self) -> String {
        self.migrate_by(Path::new("migrations")).await
    }

    async fn migrate_by(&self, folder: &Path) -> String {
        let url = environment("DATABASE_URL");
        let url = format!("{}/{}", url.rsplit_once('/').unwrap().0, self.name);
        let settings = [("DATABASE_URL", OsStr::new(&url)), ("MIGRATIONS_DIR", folder.as_os_str())];
        let output = Command::new("scripts/migrate.sh").envs(settings).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn owner(&self) -> Client {
        session(&environment("DATABASE_URL"), &self.name).await
    }

    async fn superuser(&self) -> Client {
        session(&environment("PG_SUPERUSER_URL"), &self.name).await
    }

    /// The service's own sessions.
    fn orders(&self) -> PostgresOrders {
        let value = |name: &str| if name == "pg_database" { self.name.clone() } else { variable(name) };
        PostgresOrders::new(&Settings::parse(|name| Ok(value(name))).unwrap(), false)
    }

    async fn drop(self) {
        self.server.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_that_replication_applies_is_stamped_with_a_transaction_of_this_server() {
    let database = Database::migrated().await;
    let worker = database.superuser().await;
    worker.batch_execute("SET session_replication_role = replica").await.unwrap();
    worker.batch_execute(LOADED).await.unwrap();
    assert!(worker.query_one(IS_STAMPED, &[]).await.unwrap().get::<_, bool>(0));
    worker.batch_execute("UPDATE orders SET changed_xid = '9000000000000'").await.unwrap();
    assert!(worker.query_one(IS_STAMPED, &[]).await.unwrap().get::<_, bool>(0));
    database.drop().await;
}

#[tokio::test]
async fn rows_ahead_of_the_server_are_noticed_and_stamped_again_by_a_migration() {
    let database = Database::migrated().await;
    let (store, client) = (database.orders(), fresh_client());
    // Like a dump, which loads the rows before it creates the trigger. The clients before and after this one have no orders.
    for client in ["a", "z"] {
        place(&store, &ClientName::parse(client).unwrap()).await;
    }
    assert_eq!(store.check().await, Ok(()));
    let owner = database.owner().await;
    let load = format!(
        "ALTER TABLE orders DISABLE TRIGGER orders_stamp_change; {LOADED};
        UPDATE orders SET client = '{}' WHERE idempotency_key = 'loaded';
        ALTER TABLE orders ENABLE ALWAYS TRIGGER orders_stamp_change",
        client.as_str()
    );
    owner.batch_execute(&load).await.unwrap();
    match store.check().await {
        Err(StoreError::Unavailable(cause)) => assert!(cause.contains(client.as_str()), "{cause}"),
        other => panic!("{other:?}"),
    }
    let said = database.migrate().await;
    assert!(said.contains("1 orders had transaction ids of another server"), "{said}");
    assert_eq!(store.check().await, Ok(()));
    let said = database.migrate().await;
    assert!(!said.contains("another server"), "once is enough: {said}");
    database.drop().await;
}

#[tokio::test]
async fn the_epoch_follows_the_database_the_table_and_the_mark_of_the_operator() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let epoch = async |session: &Client| session.query_one(EPOCH, &[]).await.unwrap().get::<_, i64>(0);
    let first = epoch(&owner).await;
    assert!((0..1 << 48).contains(&first), "{first}");
    assert_eq!(epoch(&database.superuser().await).await, first, "it stays");
    let second = owner.batch_execute("INSERT INTO feed_life DEFAULT VALUES").await;
    assert!(second.is_err(), "there is one mark");

    owner.batch_execute("UPDATE feed_life SET life = DEFAULT").await.unwrap();
    let marked = epoch(&owner).await;
    assert_ne!(marked, first);
    drop(owner);
    // A copy is another database with the same mark.
    let copy = Database::create(&format!("TEMPLATE {}", database.name)).await;
    let owner = copy.owner().await;
    let copied = epoch(&owner).await;
    assert_ne!(copied, marked);
    let reload = "CREATE TABLE loaded (LIKE orders INCLUDING ALL); ALTER TABLE orders RENAME TO before; ALTER TABLE loaded RENAME TO orders";
    owner.batch_execute(reload).await.unwrap();
    assert_ne!(epoch(&owner).await, copied, "another table");
    copy.drop().await;
    database.drop().await;
}

/// A role's or a database's `search_path` may name another schema, as `"$user"` does if a schema has the owner's name.
#[tokio::test]
async fn the_migration_and_the_service_use_the_schema_public() {
    let database = Database::create("").await;
    let superuser = database.superuser().await;
    let elsewhere =
        "CREATE SCHEMA orders_owner AUTHORIZATION orders_owner; CREATE SCHEMA app AUTHORIZATION orders_owner;
        GRANT USAGE ON SCHEMA app TO orders_service";
    superuser.batch_execute(elsewhere).await.unwrap();
    database.migrate().await;
    let set = format!("ALTER DATABASE {} SET search_path = app", database.name);
    superuser.batch_execute(&set).await.unwrap();
    assert!(database.migrate().await.contains("nothing to do"));
    let schemas = "SELECT string_agg(DISTINCT relnamespace::regnamespace::text, ' ') FROM pg_class
        WHERE relname IN ('orders', 'schema_migrations', 'feed_life', 'feed_epoch', 'orders_ahead')";
    assert_eq!(superuser.query_one(schemas, &[]).await.unwrap().get::<_, &str>(0), "public");
    let store = database.orders();
    assert_eq!(store.check().await, Ok(()));
    place(&store, &fresh_client()).await;
    database.drop().await;
}

/// The statements of the service, over the example in examples/partitions/.
#[tokio::test]
async fn orders_in_partitions_by_client_need_no_other_statement() {
    let (database, clients) = (Database::migrated().await, [(); 9].map(|()| fresh_client()));
    let store = database.orders();
    let old = orders::<9>();
    let place = async |client: &ClientName, name: &str, order: &Order| {
        store.place(client, &key(name), Fingerprint::of(&order.placed), order).await
    };
    for (client, order) in clients.iter().zip(&old) {
        assert_eq!(place(client, "k", order).await, Ok(Placement::Placed));
    }
    let owner = database.owner().await;
    let stamps = "SELECT string_agg(changed_xid::text, ' ' ORDER BY client) FROM orders";
    let stamps_before: String = owner.query_one(stamps, &[]).await.unwrap().get(0);

    let folder = std::env::temp_dir().join(&database.name);
    fs::create_dir(&folder).unwrap();
    for source in ["migrations", "examples/partitions"] {
        for file in fs::read_dir(source).unwrap().map(|file| file.unwrap().path()) {
            fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    let said = database.migrate_by(&folder).await;
    assert!(said.contains("partition_orders"), "{said}");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(
        owner.query_one(stamps, &[]).await.unwrap().get::<_, String>(0),
        stamps_before,
        "the copy changed nothing"
    );
    let partitions = "SELECT count(DISTINCT tableoid) FROM orders";
    assert!(owner.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0) > 1);

    let service = store.session().await.unwrap();
    for file in fs::read_dir("src/spin/sql").unwrap().map(|file| file.unwrap().path()) {
        let prepared = service.prepare(&fs::read_to_string(&file).unwrap()).await;
        assert!(prepared.is_ok(), "{}: {prepared:?}", file.display());
    }
    assert_eq!(store.check().await, Ok(()));
    let new = orders::<9>();
    for (at_client, client) in clients.iter().enumerate() {
        let (first, second) = (&old[at_client], &new[at_client]);
        assert_eq!(place(client, "k", second).await, Ok(Placement::KeyTaken), "the key of before");
        assert_eq!(store.find_by_key(client, &key("k")).await, Ok(record_of(first)));
        assert_eq!(place(client, "l", second).await, Ok(Placement::Placed));
        let changed = store.change(client, first.id, &[1], Status::Confirmed, at(1000)).await.unwrap().unwrap();
        let page = store.list(client, &Filter::default(), 100).await.unwrap().orders;
        assert_eq!(page.iter().map(|order| order.id).max(), Some(second.id.max(first.id)));
        let sweep = Sweep { done: Snapshot::BEGINNING, begun: None };
        let events = store.events(client, &sweep, 100).await.unwrap().events;
        let events: Vec<_> = events.iter().map(|event| (event.order.id, event.order.version)).collect();
        assert_eq!(events, [(second.id, 1), (changed.id, 2)]);
    }
    assert_stamped_and_noticed(&database, &store).await;
    database.drop().await;
}

/// Each partition's trigger fires for every writer, and readiness looks at each partition.
async fn assert_stamped_and_noticed(database: &Database, store: &PostgresOrders) {
    let worker = database.superuser().await;
    worker.batch_execute("SET session_replication_role = replica").await.unwrap();
    worker.batch_execute("UPDATE orders SET changed_xid = '9000000000000'").await.unwrap();
    assert!(worker.query_one(IS_STAMPED, &[]).await.unwrap().get::<_, bool>(0));
    let ahead =
        "ALTER TABLE orders DISABLE TRIGGER orders_stamp_change; UPDATE orders SET changed_xid = '9000000000000';
        ALTER TABLE orders ENABLE ALWAYS TRIGGER orders_stamp_change";
    database.owner().await.batch_execute(ahead).await.unwrap();
    let missed = "SELECT count(*) FROM (SELECT client FROM orders EXCEPT SELECT client FROM orders_ahead) AS missed";
    assert_eq!(worker.query_one(missed, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(store.check().await.is_err());
}
