//! An order and its event in one transaction; a relay publishes the events after the last number that it saw.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    let mut transaction = app.postgres.begin();
    if !transaction.insert(UniqueOrders, key, order).await? {
        let existing = app.postgres.select(UniqueOrders, key).await?;
        return Ok(existing.map_or_else(Answer::in_progress, |order| Answer::created(&order)));
    }
    transaction.insert(Outbox, key, order).await?;
    transaction.commit().await?;
    Ok(Answer::created(order))
}

pub async fn relay(app: &App) -> Result<()> {
    let last = app.redis.get("outbox:last").await?;
    let last = last.map_or(0, |number| number.parse().unwrap());
    for (number, order) in app.postgres.select_outbox_after(last).await? {
        app.queue.publish(&order).await?;
        app.redis.set("outbox:last", number).await?;
    }
    Ok(())
}
