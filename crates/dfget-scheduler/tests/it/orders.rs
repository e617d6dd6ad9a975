//! Orders to have a content: who may give them, and what is told of them.

use dfget_scheduler::TakeRefused;

use crate::rig::*;

#[tokio::test]
async fn an_order_is_told_of_until_it_is_done_or_has_failed() {
    let speech = keyed();
    let node = Node::start(&speech).await;
    let (client, _members) = client(1, names(&[("m:1".to_owned(), node.address)], None), &speech);
    let mut take = client.take("m:1", order('a')).await.unwrap();
    assert_eq!(take.next().await, Ok(Some((1, false))));
    assert_eq!(take.next().await, Ok(Some((9, true))));
    assert_eq!(take.next().await, Ok(None));
    let mut take = client.take("m:1", order('b')).await.unwrap();
    assert_eq!(take.next().await, Ok(Some((1, false))));
    assert_eq!(take.next().await, Err(TakeRefused::Refused("no peer has it".to_owned())));
    let full = client.take("m:1", order('c')).await.unwrap_err();
    assert_eq!(full, TakeRefused::Refused("it has too many orders".to_owned()));
    let mut nonsense = order('a');
    nonsense.url.push_str("?token=x");
    let refused = client.take("m:1", nonsense).await.unwrap_err();
    assert!(refused.to_string().starts_with("url "), "{refused}");
    let gone = node.kill().await;
    let lost = client.take("m:1", order('a')).await.unwrap_err();
    assert!(matches!(lost, TakeRefused::Lost(_)), "{gone}: {lost}");
}

#[tokio::test]
async fn who_has_not_shown_the_key_orders_nothing() {
    let node = Node::start(&plain()).await;
    let (client, _members) = client(1, names(&[("m:1".to_owned(), node.address)], None), &plain());
    let refused = client.take("m:1", order('a')).await.unwrap_err();
    assert!(refused.to_string().contains("only nodes that show the cluster's key"), "{refused}");
}

#[tokio::test]
async fn a_member_without_orders_is_called_an_older_one() {
    let speech = keyed();
    // A port with the key, and none of our services.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = tonic::service::RoutesBuilder::default().routes();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(dfget_scheduler::serve_grpc(listener, speech.door.clone(), routes, std::future::pending()));
    let (client, _members) = client(1, names(&[("m:1".to_owned(), address)], None), &speech);
    assert_eq!(client.take("m:1", order('a')).await.unwrap_err(), TakeRefused::Older);
}
