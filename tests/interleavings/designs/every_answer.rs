//! The first answer is remembered, whatever it is.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if let Some(saved) = app.redis.get(key).await? {
        return Ok(saved.into());
    }
    let answer = find_or_insert(app, key, order).await.unwrap_or_else(|_| Answer::unavailable());
    app.redis.set(key, &answer).await?;
    Ok(answer)
}

async fn find_or_insert(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if app.postgres.insert(UniqueOrders, key, order).await? {
        return Ok(Answer::created(order));
    }
    let existing = app.postgres.select(UniqueOrders, key).await?;
    Ok(existing.map_or_else(Answer::in_progress, |order| Answer::created(&order)))
}
