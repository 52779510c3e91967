//! The Redis trigger: messages of one channel call the component, one after another, each in an instance of its own.

use crate::bindings::exports::spin::redis::inbound_redis::{Error, GuestIndices};
use crate::log::log_error;
use crate::manifest::Trigger;
use crate::state::{Instances, State};
use anyhow::{Context, Result, bail};
use futures::StreamExt;
use redis::Client;
use std::convert::Infallible;
use std::io::Write;
use wasmtime::component::InstancePre;

/// The component's handler of messages.
pub struct Subscriber(Instances);

/// Fails if the component exports no handler of messages.
pub(crate) fn check(component: &InstancePre<State>) -> wasmtime::Result<()> {
    GuestIndices::new(component).map(drop)
}

impl Subscriber {
    pub(crate) fn new(instances: Instances) -> Self {
        Self(instances)
    }

    /// Calls the component for each message, for as long as it is polled. Messages that arrive during a call wait.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached, and when the connection to it is lost: as in Spin, there is no reconnect.
    pub async fn run(&self) -> Result<Infallible> {
        let Trigger::Redis { address, channel, component } = &self.0.app.trigger else {
            bail!("the application has no Redis trigger");
        };
        let client = Client::open(address.as_str())?;
        let server = &client.get_connection_info().addr;
        let mut subscribed =
            client.get_async_pubsub().await.with_context(|| format!("the Redis trigger cannot connect to {server}"))?;
        println!("Active Channels on {server}:");
        subscribed.subscribe(channel).await.with_context(|| format!("cannot subscribe to {channel:?} on {server}"))?;
        println!("\t{server}/{channel}: [{component}]");
        std::io::stdout().flush()?;
        let mut messages = subscribed.on_message();
        while let Some(message) = messages.next().await {
            self.call(message.get_payload_bytes().to_vec()).await;
        }
        bail!("disconnected from {server}")
    }

    /// Calls the component for one message. A failure is logged, and the next message is handled, as in Spin.
    pub async fn call(&self, message: Vec<u8>) {
        match self.call_fresh_instance(message).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the handler failed: {error:?}"),
            Err(error) => log_error("the handler trapped", &error),
        }
    }

    /// Whatever the component still does after it has returned is cut off.
    async fn call_fresh_instance(&self, message: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        let (mut store, instance) = self.0.instantiate().await?;
        let handler = GuestIndices::new(&self.0.component)?.load(&mut store, &instance)?;
        store.run_concurrent(async |accessor| handler.call_handle_message(accessor, message).await).await?
    }
}
