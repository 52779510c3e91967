//! PostgreSQL connections: a pool for each address, as in Spin.

use crate::bindings::spin::postgres::postgres::Error;
use crate::manifest::App;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::config::{Host as PgHost, SslMode};
use tokio_postgres::{Config, NoTls};

/// Connections per address. Spin's value.
const POOL_SIZE: usize = 64;
const DEFAULT_PORT: u16 = 5432;

/// The guest's connection; the last owner's drop gives it back to its pool, busy or not.
pub type Connection = Arc<Object>;

/// Pools by address string, shared by all instances.
#[derive(Default)]
pub struct Pools(Mutex<HashMap<String, Pool>>);

impl Pools {
    /// Takes a connection, waiting for a free one without limit.
    pub async fn connect(&self, app: &App, address: &str) -> Result<Connection, Error> {
        let pool = self.pool(app, address).map_err(Error::ConnectionFailed)?;
        match pool.get().await {
            Ok(connection) => Ok(Arc::new(connection)),
            Err(error) => Err(Error::ConnectionFailed(format!("{error:?}"))),
        }
    }

    fn pool(&self, app: &App, address: &str) -> Result<Pool, String> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(address) {
            return Ok(pool.clone());
        }
        let pool = new_pool(app, address)?;
        pools.insert(address.to_owned(), pool.clone());
        Ok(pool)
    }
}

fn new_pool(app: &App, address: &str) -> Result<Pool, String> {
    let config: Config = address.parse().map_err(|error| format!("the address cannot be parsed: {error:?}"))?;
    check_hosts(app, &config)?;
    if config.get_ssl_mode() != SslMode::Disable {
        return Err("the bundled host has no TLS".to_owned());
    }
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Clean };
    let manager = Manager::from_config(config, NoTls, manager_config);
    Pool::builder(manager).max_size(POOL_SIZE).build().map_err(|error| format!("{error:?}"))
}

fn check_hosts(app: &App, config: &Config) -> Result<(), String> {
    if config.get_hosts().is_empty() {
        return Err("the address names no host".to_owned());
    }
    for (index, host) in config.get_hosts().iter().enumerate() {
        let PgHost::Tcp(host) = host else {
            return Err("unix sockets are not served by the bundled host".to_owned());
        };
        // One port may be given for all hosts.
        let ports = config.get_ports();
        let port = ports.get(index).or(ports.first()).copied();
        let port = port.unwrap_or(DEFAULT_PORT);
        if !app.allows("postgres", host, port) {
            return Err(format!("{host}:{port} is not among allowed_outbound_hosts"));
        }
    }
    Ok(())
}
