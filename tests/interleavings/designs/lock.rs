//! A lock in Redis around the check and the insert.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    let lock = format!("lock:{key}");
    if !app.redis.set_nx_ex(&lock, "locked").await? {
        return Ok(Answer::in_progress());
    }
    let answer = find_or_insert(app, key, order).await;
    app.redis.del(&lock).await?;
    answer
}

async fn find_or_insert(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if let Some(existing) = app.postgres.select(Orders, key).await? {
        return Ok(Answer::created(&existing));
    }
    app.postgres.insert(Orders, key, order).await?;
    Ok(Answer::created(order))
}
