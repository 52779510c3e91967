//! What a result shows of the command that it answers.

use order::client::Clients;

use crate::queue::Queue;
use crate::{ORDER, WEB};

/// SHA-256 of `shop`.
const SHOP_TOKEN: &str = "8d9001d32c6a703d95921a77115050f33dd823d3f1730bd35215dcbecad6dc20";

#[tokio::test]
async fn a_result_names_the_command_and_the_client_that_it_answers() {
    let queue = Queue::new();
    let place = |key: &str, order: &str, token: &str| {
        queue.add(&[("key", key.as_bytes()), ("order", order.as_bytes()), ("token", token.as_bytes())])
    };
    queue.app.clients.replace(Clients::parse(&format!("{WEB}\nshop:{SHOP_TOKEN}")).unwrap());
    let other = ORDER.replace("59900", "59901");
    // One key of two clients, and one that is used again after its command was refused.
    let expected = [
        (place("k", "{}", "test"), "web", 422),
        (place("k", &other, "test"), "web", 201),
        (place("k", ORDER, "shop"), "shop", 201),
        (place("k", ORDER, "test"), "web", 422),
        (place("k", &other, "test"), "web", 201),
        (place("k", ORDER, "of nobody"), "", 401),
    ];
    queue.ring().await;
    let results = queue.results.borrow();
    for (command, client, status) in expected {
        let own: Vec<_> = results.iter().filter(|result| result.command == command).collect();
        assert_eq!(own.len(), 1, "{command}");
        let named = [("command", command.to_string()), ("client", client.to_owned())];
        let fields = own[0].fields();
        assert!(named.iter().all(|field| fields.contains(field)), "{fields:?}");
        assert_eq!(own[0].status, status, "{command}");
    }
}

#[tokio::test]
async fn a_key_is_repeated_only_if_it_is_one_and_every_field_is_text() {
    let queue = Queue::new();
    let (long, longest) = ("k".repeat(256), "k".repeat(255));
    let keys: [(&[u8], bool); 12] = [
        (b"k", true),
        (b" \"k\";a=1\t", true),
        (longest.as_bytes(), true),
        (long.as_bytes(), false),
        (b"", false),
        (b"a,b", false),
        (b"k\n", false),
        (b"\n", false),
        (b"\x00", false),
        (b"\xff", false),
        ("ключ".as_bytes(), false),
        (b"\"k\"\xc3\x28", false),
    ];
    let order = ("order", ORDER.as_bytes());
    for (key, is_valid) in keys {
        // Refused because of its key, its order or its token: the key is judged separately.
        for fields in [&[("key", key), order][..], &[("key", key)], &[("key", key), ("order", b"\xff\xfe")]] {
            queue.add(fields);
            queue.ring().await;
            let told = queue.results.borrow().last().unwrap().fields();
            let told = told.iter().find(|(name, _)| *name == "key").map(|(_, value)| value.as_bytes());
            assert_eq!(told, is_valid.then_some(key), "{fields:?}");
        }
    }
    for fields in [&[order][..], &[("key", b"k"), ("key", b"k"), order]] {
        queue.add(fields);
        queue.ring().await;
        assert_eq!(queue.results.borrow().last().unwrap().key, None, "{fields:?}");
    }
}
