//! The laws of `AnswerCache`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use order::client::ClientName;
use order::idempotency::{Answer, Fingerprint, IdempotencyKey, KeyRecord};
use order::stores::AnswerCache;
use uuid::Uuid;

use super::{Stores, fresh_client, key};

fn record(number: u8, body: &[u8]) -> KeyRecord {
    let answer = Answer { order_id: Uuid::from_u128(number.into()), body: Bytes::copy_from_slice(body) };
    KeyRecord { fingerprint: Fingerprint([number; 32]), answer }
}

/// Remembers it, and waits until it is found: the write may take a while.
async fn remember(stores: &impl Stores, client: &ClientName, key: &IdempotencyKey, record: &KeyRecord) {
    let (answers, started) = (stores.answers(), Instant::now());
    answers.remember(client, key, record).await;
    while answers.find(client, key).await.as_ref() != Some(record) {
        assert!(started.elapsed() < Duration::from_secs(10), "it is not found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn nothing_is_found_if_nothing_was_remembered(stores: &impl Stores) {
    assert_eq!(stores.answers().find(&fresh_client(), &key("k")).await, None);
}

pub async fn a_record_is_found_byte_for_byte(stores: &impl Stores) {
    let all_bytes: Vec<u8> = (0..=255).collect();
    let client = fresh_client();
    for key in [key("k"), key(" a:b \"*?[\\r\\n"), key(&"k".repeat(255))] {
        for body in [b"{}".as_slice(), b"", &all_bytes, &[b'x'; 70_000]] {
            remember(stores, &client, &key, &record(1, body)).await;
        }
    }
}

pub async fn the_last_one_remembered_is_found(stores: &impl Stores) {
    let client = fresh_client();
    for number in [1, 2, 1] {
        remember(stores, &client, &key("k"), &record(number, b"{}")).await;
    }
}

pub async fn another_key_and_another_client_find_nothing(stores: &impl Stores) {
    let (client, everyone) = (fresh_client(), ClientName::default());
    remember(stores, &client, &key("k"), &record(1, b"{}")).await;
    for other in ["K", "k ", " k", "kk", ":k"] {
        assert_eq!(stores.answers().find(&client, &key(other)).await, None, "{other:?}");
    }
    // A client joined with a key is not another client's key.
    let joined = key(&format!("{}:k", client.as_str()));
    for (client, key) in [(fresh_client(), key("k")), (everyone.clone(), key("k")), (everyone, joined)] {
        assert_eq!(stores.answers().find(&client, &key).await, None, "{client:?} {key:?}");
    }
}

pub async fn what_was_lost_is_not_found_and_can_be_remembered_again(stores: &impl Stores) {
    let client = fresh_client();
    remember(stores, &client, &key("k"), &record(1, b"{}")).await;
    stores.set_entry(&client, &key("k"), None).await;
    assert_eq!(stores.answers().find(&client, &key("k")).await, None);
    remember(stores, &client, &key("k"), &record(1, b"{}")).await;
}

pub async fn a_damaged_entry_is_not_found(stores: &impl Stores) {
    let (client, key) = (fresh_client(), key("k"));
    remember(stores, &client, &key, &record(1, b"{}")).await;
    let entry = stores.entry(&client, &key).await.unwrap();
    let mut damaged = vec![[entry.as_slice(), b"\0"].concat(), b"OK".to_vec()];
    for place in 0..entry.len() {
        damaged.push(entry[..place].to_vec());
        damaged.push(entry.clone());
        damaged.last_mut().unwrap()[place] ^= 1 << (place % 8);
    }
    for bytes in damaged {
        stores.set_entry(&client, &key, Some(&bytes)).await;
        assert_eq!(stores.answers().find(&client, &key).await, None, "{bytes:?}");
    }
    remember(stores, &client, &key, &record(2, b"{}")).await;
}

pub async fn an_entry_copied_from_elsewhere_is_not_found(stores: &impl Stores) {
    let (client, everyone) = (fresh_client(), ClientName::default());
    // Fresh, since the client without a name is shared by all laws.
    let own = key(client.as_str());
    remember(stores, &client, &own, &record(1, b"{}")).await;
    let entry = stores.entry(&client, &own).await.unwrap();
    for (client, key) in [(client, key("k")), (fresh_client(), own.clone()), (everyone, own)] {
        stores.set_entry(&client, &key, Some(&entry)).await;
        assert_eq!(stores.answers().find(&client, &key).await, None, "{client:?} {key:?}");
        remember(stores, &client, &key, &record(2, b"{}")).await;
    }
}

pub async fn keys_that_cannot_be_reached_are_not_up_and_find_nothing(stores: &impl Stores) {
    let (client, answers) = (fresh_client(), stores.answers());
    assert!(answers.is_up().await);
    remember(stores, &client, &key("k"), &record(1, b"{}")).await;
    stores.set_reachable(false);
    assert!(!answers.is_up().await);
    assert_eq!(answers.find(&client, &key("k")).await, None);
    // The caller gets no error and continues.
    answers.remember(&client, &key("k"), &record(1, b"{}")).await;
    stores.set_reachable(true);
    assert!(answers.is_up().await);
    assert_eq!(answers.find(&client, &key("k")).await, Some(record(1, b"{}")));
}
