//! `spin:redis`: each `open` is a TCP connection of its own, and nothing times out, as in Spin.

use crate::bindings::spin::redis::redis::{
    Error, Host, HostConnection, HostConnectionWithStore, RedisParameter, RedisResult,
};
use crate::faults::Call;
use crate::state::State;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, Value};
use wasmtime::Result;
use wasmtime::component::{Accessor, HasSelf, Resource};

/// The guest's connection: requests of one instance share it, and the client multiplexes them.
pub type Connection = redis::aio::MultiplexedConnection;

type Accessed<T> = Accessor<T, HasSelf<State>>;
type Outcome<V> = Result<std::result::Result<V, Error>>;

fn failed(error: redis::RedisError) -> Error {
    match error.kind() {
        redis::ErrorKind::TypeError => Error::TypeError,
        _ => Error::Other(error.to_string()),
    }
}

/// Runs one command; the store is not held while Redis works on it.
async fn run<T, V: FromRedisValue>(
    accessor: &Accessed<T>,
    connection: Resource<Connection>,
    command: &redis::Cmd,
) -> Outcome<V> {
    let mut connection = accessor.with(|mut access| access.get().table.get(&connection).cloned())?;
    Ok(command.query_async(&mut connection).await.map_err(failed))
}

impl Host for State {}

impl HostConnection for State {
    fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send> HostConnectionWithStore<T> for HasSelf<State> {
    async fn open(accessor: &Accessed<T>, address: String) -> Outcome<Resource<Connection>> {
        let Ok(client) = Client::open(address) else {
            return Ok(Err(Error::InvalidAddress));
        };
        let ConnectionAddr::Tcp(host, port) = &client.get_connection_info().addr else {
            return Ok(Err(Error::InvalidAddress));
        };
        if !accessor.with(|mut access| access.get().app.allows("redis", host, *port)) {
            eprintln!("redis: {host}:{port} is not among allowed_outbound_hosts");
            return Ok(Err(Error::InvalidAddress));
        }
        let faults = accessor.with(|mut access| access.get().faults.clone());
        let config = AsyncConnectionConfig::new();
        let connect = async { Ok(client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)) };
        match faults.run(Call::RedisOpen, connect).await? {
            Ok(connection) => Ok(Ok(accessor.with(|mut access| access.get().table.push(connection))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn publish(
        accessor: &Accessed<T>,
        connection: Resource<Connection>,
        channel: String,
        payload: Vec<u8>,
    ) -> Outcome<()> {
        let command = redis::cmd("PUBLISH").arg(channel).arg(payload).to_owned();
        run(accessor, connection, &command).await
    }

    async fn get(accessor: &Accessed<T>, connection: Resource<Connection>, key: String) -> Outcome<Option<Vec<u8>>> {
        let faults = accessor.with(|mut access| access.get().faults.clone());
        faults.run(Call::RedisGet, run(accessor, connection, redis::cmd("GET").arg(key))).await
    }

    async fn set(accessor: &Accessed<T>, connection: Resource<Connection>, key: String, value: Vec<u8>) -> Outcome<()> {
        run(accessor, connection, redis::cmd("SET").arg(key).arg(value)).await
    }

    async fn incr(accessor: &Accessed<T>, connection: Resource<Connection>, key: String) -> Outcome<i64> {
        run(accessor, connection, redis::cmd("INCR").arg(key)).await
    }

    async fn del(accessor: &Accessed<T>, connection: Resource<Connection>, keys: Vec<String>) -> Outcome<u32> {
        run(accessor, connection, redis::cmd("DEL").arg(keys)).await
    }

    async fn sadd(
        accessor: &Accessed<T>,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> Outcome<u32> {
        run(accessor, connection, redis::cmd("SADD").arg(key).arg(values)).await
    }

    async fn smembers(accessor: &Accessed<T>, connection: Resource<Connection>, key: String) -> Outcome<Vec<String>> {
        run(accessor, connection, redis::cmd("SMEMBERS").arg(key)).await
    }

    async fn srem(
        accessor: &Accessed<T>,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> Outcome<u32> {
        run(accessor, connection, redis::cmd("SREM").arg(key).arg(values)).await
    }

    async fn execute(
        accessor: &Accessed<T>,
        connection: Resource<Connection>,
        command: String,
        arguments: Vec<RedisParameter>,
    ) -> Outcome<Vec<RedisResult>> {
        let call = if command.eq_ignore_ascii_case("GET") { Call::RedisGet } else { Call::RedisExecute };
        let mut command = redis::cmd(&command);
        for argument in arguments {
            match argument {
                RedisParameter::Int64(number) => command.arg(number),
                RedisParameter::Binary(bytes) => command.arg(bytes),
            };
        }
        let faults = accessor.with(|mut access| access.get().faults.clone());
        let answer: std::result::Result<Value, Error> = faults.run(call, run(accessor, connection, &command)).await?;
        Ok(answer.and_then(|value| {
            let mut flat = Vec::new();
            flatten(value, &mut flat)?;
            Ok(flat)
        }))
    }
}

fn flatten(value: Value, flat: &mut Vec<RedisResult>) -> std::result::Result<(), Error> {
    match value {
        Value::Nil => flat.push(RedisResult::Nil),
        Value::Okay => flat.push(RedisResult::Status("OK".to_owned())),
        Value::SimpleString(text) => flat.push(RedisResult::Status(text)),
        Value::Int(number) => flat.push(RedisResult::Int64(number)),
        Value::BulkString(bytes) => flat.push(RedisResult::Binary(bytes)),
        Value::Array(values) | Value::Set(values) => {
            for value in values {
                flatten(value, flat)?;
            }
        }
        Value::ServerError(error) => return Err(failed(error.into())),
        other => return Err(Error::Other(format!("not served by this host: {other:?}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn lists_within_a_reply_lose_their_bounds() {
        // The shape of an XREADGROUP reply: streams, each with its entries, each with its fields.
        let fields = Value::Array(vec![text("key"), text("k-1"), Value::Nil, Value::Int(3)]);
        let entry = Value::Array(vec![text("1-0"), fields]);
        let reply = Value::Array(vec![Value::Array(vec![text("orders"), Value::Array(vec![entry])]), Value::Okay]);
        let mut flat = Vec::new();
        flatten(reply, &mut flat).unwrap();
        let binary = |text: &str| RedisResult::Binary(text.into());
        let [stream, id, key, value] = ["orders", "1-0", "key", "k-1"].map(binary);
        let status = RedisResult::Status("OK".to_owned());
        let expected = [stream, id, key, value, RedisResult::Nil, RedisResult::Int64(3), status];
        assert_eq!(format!("{flat:?}"), format!("{expected:?}"));
    }

    #[test]
    fn an_empty_list_is_empty_and_a_missing_list_is_nil() {
        for (reply, length) in
            [(Value::Array(vec![]), 0), (Value::Array(vec![Value::Array(vec![])]), 0), (Value::Nil, 1)]
        {
            let mut flat = Vec::new();
            flatten(reply, &mut flat).unwrap();
            assert_eq!(flat.len(), length);
        }
    }
}
