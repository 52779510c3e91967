//! A primary and its standby: copies of the storm's PostgreSQL, with its schema, roles and passwords.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::proxy::Proxy;
use crate::service::{connect, free_port, superuser, variable};

/// The standby's application_name.
const STANDBY: &str = "standby";
const LOG: &str = "target/storm-postgres.log";

/// A PostgreSQL with its own folder. Both are deleted when it is dropped.
struct Server {
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl Server {
    /// A running copy of the server on that port: its standby, or another primary.
    async fn copy_of(port: u16, is_standby: bool) -> Self {
        let sql = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
        let programs = PathBuf::from(superuser().await.query_one(sql, &[]).await.unwrap().get::<_, String>(0));
        // PostgreSQL refuses to run as root, so the user of the storm's server runs this one, in a folder it can reach.
        let data = fs::metadata(variable("PG_DATA")).unwrap();
        let (parent, own_port) = (PathBuf::from(variable("FAILOVER_DIR")), free_port());
        chown(&parent, Some(data.uid()), Some(data.gid())).unwrap();
        let folder = parent.join(own_port.to_string());
        let command = |program: &str| {
            let log = File::options().create(true).append(true).open(LOG).unwrap();
            let mut command = Command::new(programs.join(program));
            // The library that receives the primary's changes needs the server's own libpq, not the system's.
            command.env("LD_LIBRARY_PATH", programs.join("../lib"));
            command.current_dir("/").uid(data.uid()).gid(data.gid()).arg("-D").arg(&folder);
            command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).kill_on_drop(true);
            command
        };

        let mut copy = command("pg_basebackup");
        copy.args(["-d", &format!("{}?application_name={STANDBY}", superuser_url(port)), "-c", "fast", "--no-sync"]);
        assert!(copy.args(is_standby.then_some("-R")).status().await.unwrap().success(), "see {LOG}");
        let mut server = command("postgres");
        server.args(["-p", &own_port.to_string(), "-k", ""]);
        let settings = [
            "listen_addresses=127.0.0.1",
            "max_connections=400",
            // The socket is in its folder, so that a killed server leaves none in the system.
            "dynamic_shared_memory_type=mmap",
            // A standby that is promoted at the moment it loses its primary waits this long first; 5 s by default.
            "wal_retrieve_retry_interval=500ms",
        ];
        for setting in settings {
            server.args(["-c", setting]);
        }
        let process = server.spawn().unwrap();
        let server = Self { port: own_port, folder, process };
        wait_until("the copy runs", async || {
            tokio_postgres::connect(&superuser_url(own_port), tokio_postgres::NoTls).await.is_ok()
        })
        .await;
        server
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn superuser(&self) -> tokio_postgres::Client {
        connect(&superuser_url(self.port)).await
    }

    /// `kill -9` to all its processes, as if their machine were lost.
    fn kill(&self) {
        let Some(pid) = self.process.id() else { return };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        shell(
            r#"kill -KILL "$@""#,
            &[&[&*pid.to_string()], &*children.split_whitespace().collect::<Vec<_>>()].concat(),
        );
        // The only memory that outlives it. Its number is the last one in the seventh line.
        let notes = fs::read_to_string(self.folder.join("postmaster.pid")).unwrap_or_default();
        if let Some(memory) = notes.lines().nth(6).and_then(|line| line.split_whitespace().last()) {
            shell(r#"ipcrm -m "$1""#, &[memory]);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The shell's own `kill`: bare Debian has no other.
fn shell(script: &str, arguments: &[&str]) {
    let _ = StdCommand::new("sh").args(["-c", script, "sh"]).args(arguments).stderr(Stdio::null()).status();
}

fn superuser_url(port: u16) -> String {
    variable("PG_SUPERUSER_URL").replace(&format!(":{}/", variable("PG_PORT")), &format!(":{port}/"))
}

pub struct Pair {
    primary: Server,
    standby: Server,
    /// The address that the service uses.
    pub address: Proxy,
    /// The standby's path to the primary.
    replication: Proxy,
    is_synchronous: bool,
}

impl Pair {
    pub async fn start(is_synchronous: bool) -> Self {
        let primary = Server::copy_of(variable("PG_PORT").parse().unwrap(), false).await;
        let (address, replication) = (Proxy::start(primary.address()).await, Proxy::start(primary.address()).await);
        let standby = Server::copy_of(replication.port, true).await;
        let pair = Self { primary, standby, address, replication, is_synchronous };
        pair.wait_for_standby().await;
        pair
    }

    /// Waits until the standby has everything that was acknowledged, and, if it is synchronous, will have everything to come.
    /// Before that the primary is alone: only this wait makes a second failover as harmless as the first.
    async fn wait_for_standby(&self) {
        let superuser = self.primary.superuser().await;
        let is_there = async |state: &str, end: &str| {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming' \
                       AND sync_state = $2 AND flush_lsn >= $3::text::pg_lsn";
            superuser.query_one(sql, &[&STANDBY, &state, &end]).await.unwrap().get::<_, i64>(0) == 1
        };
        wait_until("the standby streams", async || is_there("async", "0/0").await).await;
        let mut state = "async";
        if self.is_synchronous {
            // Not before it streams: every commit would wait for it.
            let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'");
            superuser.batch_execute(&set).await.unwrap();
            superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
            state = "sync";
            wait_until("it is synchronous", async || is_there(state, "0/0").await).await;
            // The checkpointer decides whether sessions wait, and reads its settings before a checkpoint. So after this
            // checkpoint every acknowledged commit has waited.
            superuser.batch_execute("CHECKPOINT").await.unwrap();
        }
        let end: String = superuser.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
        wait_until("it has everything", async || is_there(state, &end).await).await;
    }

    /// From now on the standby receives nothing.
    pub fn stall_replication(&self) {
        self.replication.stall();
    }

    /// The primary's machine is lost, with all connections and everything that the standby has not received.
    pub fn kill_primary(&self) {
        self.primary.kill();
        self.replication.refuse();
        self.address.refuse();
    }

    /// Promotes the standby and moves the address to it.
    pub async fn promote(&mut self) {
        let promote = "SELECT pg_promote()";
        assert!(self.standby.superuser().await.query_one(promote, &[]).await.unwrap().get::<_, bool>(0));
        std::mem::swap(&mut self.primary, &mut self.standby);
        self.address.lead_to(self.primary.address());
        self.address.pass();
    }

    /// Makes the old primary a standby of the new one. What only it had is lost.
    pub async fn replace_standby(&mut self) {
        self.replication.lead_to(self.primary.address());
        self.replication.pass();
        self.standby = Server::copy_of(self.replication.port, true).await;
        self.wait_for_standby().await;
    }

    /// A connection of the orders' owner to the primary.
    pub async fn owner(&self) -> tokio_postgres::Client {
        let here = format!(":{}/", self.primary.port);
        connect(&variable("DATABASE_URL").replace(&format!(":{}/", variable("PG_PORT")), &here)).await
    }
}

async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}; see {LOG}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
