//! Rows that another program wrote, or a later release that was rolled back.

use order::order::Status;
use order::stores::{Filter, OrderStore, Snapshot, Sweep};
use tokio_postgres::NoTls;

use super::laws::{Stores, change, fresh_client, key, orders, place, record_of};
use super::real::RealStores;

#[tokio::test]
async fn an_unknown_member_of_stored_items_is_not_read() {
    let (stores, client) = (RealStores::start(false).await, fresh_client());
    let [one, other] = orders();
    for (name, order) in [("one", &one), ("other", &other)] {
        place(&stores, &client, &key(name), order).await.unwrap();
    }
    let url = std::env::var("DATABASE_URL").expect("run this through `make test`");
    let (owner, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let later =
        "UPDATE orders SET items = jsonb_set(items, '{0,giftWrap}', '{\"paper\": [1, null]}') WHERE client = $1";
    assert_eq!(owner.execute(later, &[&client.as_str()]).await.unwrap(), 2);

    let store = stores.orders();
    assert_eq!(store.find_by_key(&client, &key("one")).await, Ok(record_of(&one)));
    assert_eq!(store.find(&client, one.id).await, Ok(Some(one.clone())));
    let page = store.list(&client, &Filter::default(), 100).await.unwrap();
    assert_eq!(page.orders, [other.clone(), one.clone()]);
    let sweep = Sweep { done: Snapshot::BEGINNING, begun: None };
    assert_eq!(store.events(&client, &sweep, 100).await.unwrap().events.len(), 2);
    assert_eq!(change(&stores, &client, &one, Status::Confirmed).await.unwrap().unwrap().placed, one.placed);
}

/// The check that readiness uses.
#[tokio::test]
async fn a_session_that_acknowledges_before_it_is_durable_fails_the_check() {
    for (setting, is_right) in [("on", true), ("local", true), ("remote_apply", true), ("off", false)] {
        let stores = RealStores::start_with(&format!("-c synchronous_commit={setting}")).await;
        let checked = stores.orders().check().await;
        assert_eq!(checked.is_ok(), is_right, "{setting}: {checked:?}");
        assert!(is_right || checked.unwrap_err().to_string().contains("synchronous_commit = off"));
    }
}
