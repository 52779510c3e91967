//! A unique constraint; who violates it is told so.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if app.postgres.insert(UniqueOrders, key, order).await? {
        Ok(Answer::created(order))
    } else {
        Ok(Answer::already_exists())
    }
}
