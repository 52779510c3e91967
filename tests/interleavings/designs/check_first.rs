//! Look for the key in PostgreSQL; if it is missing, insert the order. The table has no unique constraint.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if let Some(existing) = app.postgres.select(Orders, key).await? {
        return Ok(Answer::created(&existing));
    }
    app.postgres.insert(Orders, key, order).await?;
    Ok(Answer::created(order))
}
