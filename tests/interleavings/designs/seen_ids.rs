//! A consumer that remembers in Redis which messages it has seen.

use super::kit::*;

pub async fn consume(app: &App) -> Result<()> {
    while let Some(message) = app.queue.receive().await? {
        let seen = format!("seen:{}", message.id());
        if app.redis.set_nx(&seen, "seen").await?
            && let Err(error) = app.postgres.insert(Orders, &message.key, &message.order).await
        {
            app.redis.del(&seen).await?;
            return Err(error);
        }
        app.queue.acknowledge(&message).await?;
    }
    Ok(())
}
