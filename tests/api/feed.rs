//! `GET /events` over stores in memory.

use super::*;
use order::client::Clients;
use order::events::MEDIA_TYPE;

fn events(page: &Response<Bytes>) -> Vec<Value> {
    assert_eq!((page.status().as_u16(), header(page, "content-type")), (200, MEDIA_TYPE));
    assert_eq!(header(page, "cache-control"), "no-store");
    serde_json::from_slice(page.body()).unwrap()
}

pub fn next(page: &Response<Bytes>) -> String {
    let link = header(page, "link");
    link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned()
}

#[tokio::test]
async fn an_event_is_a_cloudevent_with_the_order_as_the_change_left_it() {
    let app = TestApp::default();
    app.place("k", ORDER).await;
    let page = app.get("/events").await;
    let order = json_of(&app.get("/orders").await)["orders"][0].clone();
    let id = order["orderId"].as_str().unwrap();
    let expected = json!({
        "specversion": "1.0", "id": format!("{id}/1"), "source": "/orders", "type": "order.created", "subject": id,
        "time": order["createdAt"], "datacontenttype": "application/json", "data": order,
    });
    assert_eq!(events(&page), [expected]);
    assert_eq!(header(&page, "retry-after"), "");

    for (status, version) in [("confirmed", 2), ("cancelled", 3)] {
        let patch = format!(r#"{{"status":"{status}"}}"#);
        app.patch(&format!("/orders/{id}"), &format!("\"{}\"", version - 1), &patch).await;
        let again = events(&app.get(&next(&page)).await);
        let [event] = &again[..] else { panic!("{again:?}") };
        assert_eq!((&event["type"], &event["data"]["version"]), (&json!(format!("order.{status}")), &json!(version)));
        assert_eq!(event["id"], format!("{id}/{version}"));
        assert!(event["time"].as_str() > order["createdAt"].as_str());
    }
}

#[tokio::test]
async fn a_consumer_can_follow_the_link_forever() {
    let app = TestApp::default();
    let empty = app.get("/events?limit=2").await;
    assert_eq!((events(&empty).len(), header(&empty, "retry-after")), (0, "1"));
    for key in ["a", "b", "c"] {
        app.place(key, ORDER).await;
    }
    let first = app.get(&next(&empty)).await;
    let second = app.get(&next(&first)).await;
    assert_eq!((events(&first).len(), events(&second).len()), (2, 1));
    let last = app.get(&next(&second)).await;
    assert_eq!((events(&last).len(), next(&last)), (0, next(&second)));
    app.place("d", ORDER).await;
    assert_eq!(events(&app.get(&next(&last)).await).len(), 1);
}

#[tokio::test]
async fn a_parameter_that_could_mean_something_else_is_refused() {
    let app = TestApp::default();
    app.place("a", ORDER).await;
    let cursor = next(&app.get("/events").await).replace("/events?after=", "");
    for query in [
        "limit=0",
        "limit=101",
        "limit=+1",
        "limit=1&limit=1",
        "after=",
        "after=1",
        "cursor=1",
        "after=%zz",
        "customerId=c",
        &format!("after=S{}", &cursor[1..]),
        &format!("after={cursor}0"),
        &format!("after={cursor}&after={cursor}"),
    ] {
        assert_problem(&app.get(&format!("/events?{query}")).await, 400, "invalid-parameter");
    }
    assert_eq!(events(&app.get(&format!("/events?after={cursor}&limit=100")).await).len(), 0);
}

#[tokio::test]
async fn a_position_of_an_earlier_life_of_the_database_has_expired() {
    let app = TestApp::default();
    app.place("a", ORDER).await;
    let path = next(&app.get("/events").await);
    app.orders.epoch.set(1);
    assert_problem(&app.get(&path).await, 410, "cursor-expired");
    // The cursor of the earlier release, whose epoch was a counter.
    let earlier = format!("/events?after=0001{:016x}{}", 742, Uuid::from_u128(9).simple());
    assert_problem(&app.get(&earlier).await, 410, "cursor-expired");
    assert_eq!(events(&app.get("/events").await).len(), 1);
}

#[tokio::test]
async fn a_client_sees_its_own_orders_only() {
    let app = TestApp::default();
    app.place("a", ORDER).await;
    *app.clients.borrow_mut() =
        Clients::parse("web:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08").unwrap();
    assert_problem(&app.get("/events").await, 401, "unauthorized");
    let request = Request::get("/events").header("Authorization", "Bearer test").body(Bytes::new()).unwrap();
    assert_eq!(events(&app.send(request).await).len(), 0);
}
