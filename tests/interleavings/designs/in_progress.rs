//! A record that is "in progress" for a limited time, and then has the answer.

use super::kit::*;

const IN_PROGRESS: &str = "in progress";

pub async fn place(app: &App, key: &str, order: &Order) -> Result<Answer> {
    if !app.redis.set_nx_ex(key, IN_PROGRESS).await? {
        return Ok(match app.redis.get(key).await? {
            Some(saved) if saved != IN_PROGRESS => saved.into(),
            _ => Answer::in_progress(),
        });
    }
    match app.postgres.insert(Orders, key, order).await {
        Ok(_) => {
            let answer = Answer::created(order);
            app.redis.set(key, &answer).await?;
            Ok(answer)
        }
        Err(error) => {
            app.redis.del(key).await?;
            Err(error)
        }
    }
}
