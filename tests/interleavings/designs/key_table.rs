//! A table of keys, written in the transaction that places the order.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    let mut transaction = app.postgres.begin();
    // A duplicate waits here until the first transaction ends.
    if !transaction.insert(Keys, key, order).await? {
        let existing = app.postgres.select(Keys, key).await?;
        return Ok(existing.map_or_else(Answer::in_progress, |order| Answer::created(&order)));
    }
    transaction.insert(Orders, key, order).await?;
    transaction.commit().await?;
    Ok(Answer::created(order))
}
