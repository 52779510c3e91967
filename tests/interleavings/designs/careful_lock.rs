//! The same lock with a token of its own for each request, so that only its holder releases it.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    let lock = format!("lock:{key}");
    let token = order.id.to_string();
    if !app.redis.set_nx_ex(&lock, &token).await? {
        return Ok(Answer::in_progress());
    }
    let answer = find_or_insert(app, key, order).await;
    app.redis.del_if(&lock, &token).await?;
    answer
}

async fn find_or_insert(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if let Some(existing) = app.postgres.select(Orders, key).await? {
        return Ok(Answer::created(&existing));
    }
    app.postgres.insert(Orders, key, order).await?;
    Ok(Answer::created(order))
}
