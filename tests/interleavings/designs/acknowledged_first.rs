//! A consumer that acknowledges a message, then places its order.

use super::kit::*;

pub async fn consume(app: &App) -> Result<()> {
    while let Some(message) = app.queue.receive().await? {
        app.queue.acknowledge(&message).await?;
        app.postgres.insert(UniqueOrders, &message.key, &message.order).await?;
    }
    Ok(())
}
