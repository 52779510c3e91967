//! Host processes and the two stores, as things that can be broken.

use std::fs::{File, OpenOptions, read_to_string};
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run this through `scripts/storm.sh`"))
}

/// A number from the environment, for longer runs.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// A bundled host on a port that outlives it.
pub struct Host {
    pub url: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    log: PathBuf,
    child: Child,
}

impl Host {
    pub async fn start(name: &str, arguments: &[&str], variables: &[(&'static str, &'static str)]) -> Self {
        // Taken and given back: the host binds it at once, and again after it was killed.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = PathBuf::from(format!("target/storm-{name}.log"));
        File::create(&log).unwrap();
        let listen = format!("127.0.0.1:{port}");
        let mut all: Vec<String> = ["--manifest", "spin.toml", "--listen", &listen].map(str::to_owned).into();
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let child = spawn(&all, variables, &log);
        let host = Self { url: format!("http://{listen}"), arguments: all, variables: variables.to_vec(), log, child };
        host.wait_until_it_serves().await;
        host
    }

    async fn wait_until_it_serves(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while reqwest::get(format!("{}/healthz", self.url)).await.is_err() {
            assert!(Instant::now() < deadline, "the host does not start; see {}", self.log.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`, and a new process in its place.
    pub async fn crash(&mut self) {
        self.child.kill().await.unwrap();
        self.child = spawn(&self.arguments, &self.variables, &self.log);
        self.wait_until_it_serves().await;
    }

    /// Faults that the host injected, in all its processes.
    pub fn faults(&self) -> usize {
        read_to_string(&self.log).unwrap().lines().filter(|line| line.starts_with("fault: ")).count()
    }
}

fn spawn(arguments: &[String], variables: &[(&'static str, &'static str)], log: &PathBuf) -> Child {
    let log = OpenOptions::new().append(true).open(log).unwrap();
    Command::new("target/host/order-host")
        .args(arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("target/host/order-host is built by `make build`")
}

/// The private stores. Their folder also tells which processes may be killed.
pub struct Stores {
    folder: PathBuf,
}

impl Stores {
    pub fn find() -> Self {
        Self { folder: variable("LOCAL_DIR").into() }
    }

    fn signal(&self, pid_file: &str, signal: &str) {
        let text = read_to_string(self.folder.join(pid_file)).unwrap_or_default();
        let pid = text.lines().next().expect("the store's pid");
        assert!(StdCommand::new("kill").args([signal, pid]).status().unwrap().success(), "kill {signal} {pid}");
    }

    fn redis_pid_file() -> String {
        format!("redis/redis-{}.pid", variable("REDIS_PORT"))
    }

    pub fn stop_redis(&self) {
        self.signal(&Self::redis_pid_file(), "-STOP");
    }

    pub fn continue_redis(&self) {
        self.signal(&Self::redis_pid_file(), "-CONT");
    }

    pub fn kill_redis(&self) {
        self.signal(&Self::redis_pid_file(), "-KILL");
    }

    pub fn kill_postgres(&self) {
        self.signal("pg/postmaster.pid", "-KILL");
    }

    /// Starts what was killed.
    pub async fn restart(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let up = Command::new("scripts/services.sh")
                .arg("up")
                .env_remove("REDIS_URL")
                .env_remove("DATABASE_URL")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if up.await.unwrap().success() {
                return;
            }
            assert!(Instant::now() < deadline, "the stores do not start again");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub async fn owner() -> tokio_postgres::Client {
    connect(&variable("DATABASE_URL")).await
}

/// Another role's sessions are seen and ended by a superuser alone.
pub async fn superuser() -> tokio_postgres::Client {
    connect(&variable("PG_SUPERUSER_URL")).await
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

pub async fn redis() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(variable("REDIS_URL")).unwrap();
    client.get_multiplexed_async_connection().await.expect("Redis")
}
