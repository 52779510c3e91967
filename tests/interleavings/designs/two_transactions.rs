//! A table of keys: the key first, in a transaction of its own, then the order.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if !app.postgres.insert(Keys, key, order).await? {
        let existing = app.postgres.select(Orders, key).await?;
        return Ok(existing.map_or_else(Answer::in_progress, |order| Answer::created(&order)));
    }
    app.postgres.insert(Orders, key, order).await?;
    Ok(Answer::created(order))
}
