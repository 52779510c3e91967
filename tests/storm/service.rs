//! Host processes and the two stores, and ways to break them.

use std::fs::{File, OpenOptions, read_to_string};
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run this through `scripts/storm.sh`"))
}

/// How many of 1 000 host calls go wrong. A `POST` makes two to seven.
const FAULTS_PER_MILLE: u32 = 15;

/// A number from the environment, for longer runs.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Longer than anything that works: a request that takes longer has no deadline.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Each request has its own connection: hyper may lose a request on an old one at the moment when the host dies, and then no
/// answer ever comes (hyperium/hyper#4122).
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(LONGEST).pool_max_idle_per_host(0).build().unwrap()
}

/// A storm breaks connections. A request that hangs is a failure.
pub fn cut(error: reqwest::Error) {
    assert!(!error.is_timeout(), "neither an answer nor an end within {LONGEST:?}: {error:?}");
}

/// The program that serves the component: Spin if RUNTIME is spin, else the bundled host.
pub fn is_spin() -> bool {
    std::env::var("RUNTIME").is_ok_and(|runtime| runtime == "spin")
}

/// A service on a port that outlives its process.
pub struct Host {
    manifest: &'static str,
    pub url: String,
    listen: String,
    /// Draws the seed of each process, if host calls are to fail.
    seeds: Option<fastrand::Rng>,
    variables: Vec<(&'static str, &'static str)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Host {
    pub async fn start(name: &str, seeds: Option<fastrand::Rng>, variables: &[(&'static str, &'static str)]) -> Self {
        Self::start_manifest("spin.toml", name, seeds, variables).await
    }

    pub async fn start_manifest(
        manifest: &'static str,
        name: &str,
        seeds: Option<fastrand::Rng>,
        variables: &[(&'static str, &'static str)],
    ) -> Self {
        let log = PathBuf::from(format!("target/storm-{name}.log"));
        File::create(&log).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{listen}");
        let mut host = Self { manifest, url, listen, seeds, variables: variables.to_vec(), log, child: None };
        host.spawn().await;
        host
    }

    async fn spawn(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        // Of Spin's two processes only the parent was waited for: the other one may not have closed the port yet.
        while std::net::TcpListener::bind(&self.listen).is_err() {
            assert!(Instant::now() < deadline, "{} is taken", self.listen);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let log = OpenOptions::new().append(true).open(&self.log).unwrap();
        let mut command = if is_spin() { Command::new("spin") } else { Command::new("target/host/order-host") };
        command.args(if is_spin() { ["up", "--from"].as_slice() } else { &["--manifest"] });
        command.args([self.manifest, "--listen", &self.listen]);
        if let Some(seeds) = &mut self.seeds {
            command.args(faults_argument(seeds));
        }
        command.envs(self.variables.iter().copied()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        if is_spin() {
            // Its own process group: `spin up` is two processes.
            command.process_group(0);
        }
        self.child = Some(command.spawn().expect("`make test` builds it"));
        let http = client();
        while http.get(format!("{}/healthz", self.url)).send().await.is_err() {
            assert!(Instant::now() < deadline, "the host does not start; see {}", self.log.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`, then a new process.
    pub async fn crash(&mut self) {
        self.end("-KILL").await;
        self.spawn().await;
    }

    /// `kill`, as a rolling update does, then a new process.
    pub async fn restart(&mut self) {
        self.end("-TERM").await;
        self.spawn().await;
    }

    /// The same with another value of a setting.
    pub async fn restart_with(&mut self, variable: &'static str, value: &'static str) {
        self.variables.push((variable, value));
        self.restart().await;
    }

    /// The same with another manifest.
    pub async fn upgrade(&mut self, manifest: &'static str) {
        self.manifest = manifest;
        self.restart().await;
    }

    async fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            end(&mut child, signal).await;
        }
    }

    fn log_lines(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let log = read_to_string(&self.log).unwrap();
        log.lines().filter(|line| is_wanted(line)).map(str::to_owned).collect()
    }

    /// Faults that were injected, in all its processes.
    pub fn faults(&self) -> usize {
        self.log_lines(|line| line.starts_with("fault: ")).len()
    }

    /// Instances that ended for another reason than a fault that kills: the component trapped. Spin does not log this;
    /// there a trap shows only as an empty `500`.
    pub fn traps(&self) -> Vec<String> {
        let ended = ["instance ended", "the handler trapped", "the handler failed"];
        let is_wanted = |line: &str| ended.iter().any(|words| line.starts_with(words)) && !line.contains(": killed ");
        self.log_lines(is_wanted)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            send(child, "-KILL");
        }
    }
}

/// Spin has no way to make a host call fail.
pub fn faults_argument(seeds: &mut fastrand::Rng) -> Vec<String> {
    let draw = format!("{}:{FAULTS_PER_MILLE}", seeds.u32(..));
    if is_spin() { Vec::new() } else { vec!["--random-faults".to_owned(), draw] }
}

/// Sends the signal and waits until the process has ended.
pub async fn end(child: &mut Child, signal: &str) {
    send(child, signal);
    let deadline = Instant::now() + LONGEST;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            send(child, "-KILL");
            panic!("a host does not end at {signal}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// To the process, or under Spin to its group.
fn send(child: &Child, signal: &str) {
    if let Some(pid) = child.id() {
        let target = if is_spin() { format!("-{pid}") } else { pid.to_string() };
        // The shell's own `kill`: bare Debian has no other.
        let _ = StdCommand::new("sh").args(["-c", "kill \"$1\" \"$2\"", "sh", signal, &target]).status();
    }
}

/// Below the range that the system uses for outgoing connections, so that none occupies it while the host is gone.
pub fn free_port() -> u16 {
    let mut random = fastrand::Rng::new();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| random.u16(20_000..32_000)).find(is_free).unwrap()
}

/// The private stores. Their folder also shows which processes may be killed.
pub struct Stores {
    folder: PathBuf,
}

impl Stores {
    pub fn find() -> Self {
        Self { folder: variable("ORDER_LOCAL_DIR").into() }
    }

    /// The process must be the one that was started here: pids are reused.
    fn signal(&self, pid_file: &str, program: &str, signal: &str) {
        let text = read_to_string(self.folder.join(pid_file)).unwrap_or_default();
        let pid = text.lines().next().expect("the store's pid");
        let command = read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(command.contains(program), "{pid} is not {program}: {command:?}");
        // The shell's own `kill`: bare Debian has no other.
        let status = StdCommand::new("sh").args(["-c", "kill \"$1\" \"$2\"", "sh", signal, pid]).status();
        assert!(status.unwrap().success(), "kill {signal} {pid}");
    }

    fn signal_redis(&self, signal: &str) {
        let port = variable("REDIS_PORT");
        self.signal(&format!("redis/redis-{port}.pid"), &format!("redis-server 127.0.0.1:{port}"), signal);
    }

    pub fn stop_redis(&self) {
        self.signal_redis("-STOP");
    }

    pub fn continue_redis(&self) {
        self.signal_redis("-CONT");
    }

    pub fn kill_redis(&self) {
        self.signal_redis("-KILL");
    }

    pub fn kill_postgres(&self) {
        self.signal(&format!("{}/postmaster.pid", variable("PG_DATA")), "postgres", "-KILL");
    }

    /// Starts the store that was killed.
    pub async fn restart(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut up = Command::new("scripts/services.sh");
            up.arg("up").env_remove("REDIS_URL").env_remove("DATABASE_URL");
            let up = up.output().await.unwrap();
            if up.status.success() {
                return;
            }
            let reason = String::from_utf8_lossy(&up.stderr);
            assert!(Instant::now() < deadline, "the stores do not start again: {reason}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub async fn owner() -> tokio_postgres::Client {
    connect(&variable("DATABASE_URL")).await
}

/// Only a superuser can see and end another role's sessions.
pub async fn superuser() -> tokio_postgres::Client {
    connect(&variable("PG_SUPERUSER_URL")).await
}

pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

pub async fn redis() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(variable("REDIS_URL")).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_connection_timeout(LONGEST).set_response_timeout(LONGEST);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("Redis")
}
