//! `spin:postgres`: each statement prepared, executed and forgotten, as in Spin.

#![expect(clippy::result_large_err, reason = "the error type is the interface's, its size is not ours")]

use crate::bindings::spin::postgres::postgres::{
    Column, DbError, DbValue, Error, Host, HostConnection, HostConnectionBuilder, HostConnectionBuilderWithStore,
    HostConnectionWithStore, ParameterValue, QueryError, RowSet,
};
use crate::faults::{Call, Plan};
use crate::pg_values::{self, Parameter};
use crate::pools::Connection;
use crate::state::State;
use deadpool_postgres::Object;
use futures::TryStreamExt;
use std::pin::pin;
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use wasmtime::Result;
use wasmtime::component::{Access, Accessor, FutureReader, HasSelf, Resource, StreamReader};

/// The guest's builder: only the address, since options are not served.
pub struct ConnectionBuilder(String);

type Accessed<T> = Accessor<T, HasSelf<State>>;
type Answer<V> = std::result::Result<V, Error>;
type Rows = Vec<Vec<DbValue>>;
type Streams = (Vec<Column>, StreamReader<Vec<DbValue>>, FutureReader<Answer<()>>);

fn to_parameters(values: Vec<ParameterValue>) -> Answer<Vec<Parameter>> {
    values.into_iter().map(|value| pg_values::to_parameter(value).map_err(Error::BadParameter)).collect()
}

fn as_refs(parameters: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|parameter| parameter.as_ref() as &(dyn ToSql + Sync)).collect()
}

async fn execute(connection: &Object, sql: &str, values: Vec<ParameterValue>) -> Answer<u64> {
    let parameters = to_parameters(values)?;
    // The plain client: the pool's own one would add a statement cache.
    let client: &tokio_postgres::Client = connection;
    client.execute(sql, &as_refs(&parameters)).await.map_err(failed)
}

/// All rows, and the error that ended them, if any. A query whose text, parameters or types are wrong fails before it
/// runs. An error of a running query comes after the rows that precede it, even if there are none.
async fn query(connection: &Object, sql: &str, values: Vec<ParameterValue>) -> Answer<(Vec<Column>, Rows, Answer<()>)> {
    let parameters = to_parameters(values)?;
    let client: &tokio_postgres::Client = connection;
    let mut stream = pin!(client.query_raw(sql, as_refs(&parameters)).await.map_err(failed)?);
    // Without a row Spin reports no columns either.
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    let end = loop {
        let row = match stream.try_next().await {
            Ok(Some(row)) => row,
            Ok(None) => break Ok(()),
            Err(error) => break Err(failed(error)),
        };
        if columns.is_empty() {
            columns = pg_values::columns(&row);
        }
        match pg_values::values(&row) {
            Ok(values) => rows.push(values),
            Err(error) => break Err(failed(error)),
        }
    };
    Ok((columns, rows, end))
}

fn failed(error: tokio_postgres::Error) -> Error {
    let as_text = format!("{error:?}");
    let Some(db) = error.as_db_error() else {
        return Error::QueryFailed(QueryError::Text(as_text));
    };
    let extras = [
        ("column", db.column()),
        ("constraint", db.constraint()),
        ("routine", db.routine()),
        ("hint", db.hint()),
        ("table", db.table()),
        ("datatype", db.datatype()),
        ("schema", db.schema()),
        ("where", db.where_()),
    ];
    let extras = extras.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    Error::QueryFailed(QueryError::DbError(DbError {
        as_text,
        severity: db.severity().to_owned(),
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().map(str::to_owned),
        extras,
    }))
}

impl Host for State {}

/// The blocking calls of older SDKs: the instance serves nothing else while they run, as in Spin.
impl HostConnection for State {
    async fn open(&mut self, address: String) -> Result<Answer<Resource<Connection>>> {
        Ok(match self.pools.connect(&self.app, &address).await {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(error) => Err(error),
        })
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        values: Vec<ParameterValue>,
    ) -> Result<Answer<RowSet>> {
        let connection = self.table.get(&connection)?;
        let answer = query(connection, &sql, values).await;
        Ok(answer.and_then(|(columns, rows, end)| end.map(|()| RowSet { columns, rows })))
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        sql: String,
        values: Vec<ParameterValue>,
    ) -> Result<Answer<u64>> {
        let connection = self.table.get(&connection)?;
        Ok(execute(connection, &sql, values).await)
    }

    fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send> HostConnectionWithStore<T> for HasSelf<State> {
    async fn open_async(accessor: &Accessed<T>, address: String) -> Result<Answer<Resource<Connection>>> {
        connect(accessor, &address).await
    }

    async fn query_async(
        accessor: &Accessed<T>,
        connection: Resource<Connection>,
        sql: String,
        values: Vec<ParameterValue>,
    ) -> Result<Answer<Streams>> {
        let (connection, faults) = in_use(accessor, &connection)?;
        match faults.run(Call::PgQuery, async { Ok(query(&connection, &sql, values).await) }).await? {
            Ok((columns, rows, end)) => accessor.with(|mut access: Access<'_, T, _>| {
                let rows = StreamReader::new(&mut access, rows)?;
                let end = FutureReader::new(&mut access, async { wasmtime::error::Ok(end) })?;
                Ok(Ok((columns, rows, end)))
            }),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn execute_async(
        accessor: &Accessed<T>,
        connection: Resource<Connection>,
        sql: String,
        values: Vec<ParameterValue>,
    ) -> Result<Answer<u64>> {
        let (connection, faults) = in_use(accessor, &connection)?;
        faults.run(Call::PgExecute, async { Ok(execute(&connection, &sql, values).await) }).await
    }
}

fn in_use<T>(accessor: &Accessed<T>, connection: &Resource<Connection>) -> Result<(Connection, Arc<Plan>)> {
    accessor.with(|mut access| {
        let state = access.get();
        Ok((state.table.get(connection)?.clone(), state.faults.clone()))
    })
}

async fn connect<T: Send>(accessor: &Accessed<T>, address: &str) -> Result<Answer<Resource<Connection>>> {
    let (app, pools, faults) = accessor.with(|mut access| {
        let state = access.get();
        (state.app.clone(), state.pools.clone(), state.faults.clone())
    });
    let opened = faults.run(Call::PgOpen, async { Ok(pools.connect(&app, address).await) });
    Ok(match opened.await? {
        Ok(connection) => Ok(accessor.with(|mut access| access.get().table.push(connection))?),
        Err(error) => Err(error),
    })
}

impl HostConnectionBuilder for State {
    fn new(&mut self, address: String) -> Result<Resource<ConnectionBuilder>> {
        Ok(self.table.push(ConnectionBuilder(address))?)
    }

    fn set_ca_root(&mut self, _: Resource<ConnectionBuilder>, _: String) -> Result<Answer<()>> {
        let text = "set-ca-root is not served: the bundled host has no TLS";
        Ok(Err(Error::Other(text.to_owned())))
    }

    async fn build(&mut self, builder: Resource<ConnectionBuilder>) -> Result<Answer<Resource<Connection>>> {
        let address = self.table.get(&builder)?.0.clone();
        self.open(address).await
    }

    fn drop(&mut self, builder: Resource<ConnectionBuilder>) -> Result<()> {
        self.table.delete(builder)?;
        Ok(())
    }
}

impl<T: Send> HostConnectionBuilderWithStore<T> for HasSelf<State> {
    async fn build_async(
        accessor: &Accessed<T>,
        builder: Resource<ConnectionBuilder>,
    ) -> Result<Answer<Resource<Connection>>> {
        let address = accessor.with(|mut access| access.get().table.get(&builder).map(|b| b.0.clone()))?;
        connect(accessor, &address).await
    }
}
