//! Look into Redis; if the key is missing, create the order in PostgreSQL; then save the key in Redis.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if let Some(saved) = app.redis.get(key).await? {
        return Ok(saved.into());
    }
    app.postgres.insert(Orders, key, order).await?;
    let answer = Answer::created(order);
    app.redis.set(key, &answer).await?;
    Ok(answer)
}
