//! The answer is saved in Redis within the transaction that places the order.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if let Some(saved) = app.redis.get(key).await? {
        return Ok(saved.into());
    }
    let mut transaction = app.postgres.begin();
    if !transaction.insert(UniqueOrders, key, order).await? {
        let existing = app.postgres.select(UniqueOrders, key).await?;
        return Ok(existing.map_or_else(Answer::in_progress, |order| Answer::created(&order)));
    }
    let answer = Answer::created(order);
    app.redis.set(key, &answer).await?;
    transaction.commit().await?;
    Ok(answer)
}
