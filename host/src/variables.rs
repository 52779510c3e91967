//! `spin:variables`: the component's own variables, resolved when the host started.

use crate::bindings::spin::variables::variables::{Error, Host, HostWithStore};
use crate::state::State;
use wasmtime::component::{Accessor, HasSelf};

impl Host for State {}

impl<T: Send> HostWithStore<T> for HasSelf<State> {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> wasmtime::Result<Result<String, Error>> {
        let value = accessor.with(|mut access| access.get().app.variables.get(&name).cloned());
        Ok(value.ok_or_else(|| Error::Undefined(format!("no variable for {name:?}"))))
    }
}
