//! A unique constraint; a request that violates it gets `409`.

use super::kit::*;

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if app.postgres.insert(UniqueOrders, key, order).await? {
        Ok(Answer::created(order))
    } else {
        Ok(Answer::already_exists())
    }
}
