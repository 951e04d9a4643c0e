//! What services do with the crate `etcd-client`, against the server named first on the command line; the other
//! arguments name the parts to run. Prints "ok" at the end.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LockOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result {
    let endpoint = std::env::args().nth(1).ok_or("an endpoint is needed")?;
    let mut client = Client::connect([endpoint.clone()], None).await?;
    for part in std::env::args().skip(2) {
        match part.as_str() {
            "keys" => keys(&mut client).await?,
            "transactions" => transactions(&mut client).await?,
            "leases" => leases(&mut client).await?,
            "watches" => watches(&mut client).await?,
            "locks" => locks_and_elections(&mut client).await?,
            "maintenance" => maintenance(&mut client).await?,
            "auth" => auth(&mut client, &endpoint).await?,
            unknown => return Err(format!("no part is called {unknown}").into()),
        }
    }
    println!("ok");
    Ok(())
}

async fn keys(client: &mut Client) -> Result {
    client.put("r/a", "1", None).await?;
    let options = PutOptions::new().with_prev_key();
    let old = client.put("r/a", "2", Some(options)).await?;
    assert_eq!(old.prev_key().ok_or("no previous value")?.value(), b"1");
    for number in 0..5 {
        client
            .put(format!("r/p/{number}"), number.to_string(), None)
            .await?;
    }
    let options = GetOptions::new()
        .with_prefix()
        .with_limit(2)
        .with_sort(SortTarget::Key, SortOrder::Descend);
    let found = client.get("r/p/", Some(options)).await?;
    assert_eq!(
        (found.count(), found.more(), found.kvs().len()),
        (5, true, 2)
    );
    assert_eq!(found.kvs()[0].key(), b"r/p/4");
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let gone = client.delete("r/p/", Some(options)).await?;
    assert_eq!((gone.deleted(), gone.prev_kvs().len()), (5, 5));
    let future = client
        .get("r/a", Some(GetOptions::new().with_revision(1_000_000)))
        .await;
    let text = future.err().ok_or("the future cannot be read")?.to_string();
    assert!(
        text.contains("required revision is a future revision"),
        "{text}"
    );
    Ok(())
}

async fn transactions(client: &mut Client) -> Result {
    let txn = Txn::new()
        .when([Compare::value("r/a", CompareOp::Equal, "2")])
        .and_then([TxnOp::put("r/a", "3", None), TxnOp::get("r/a", None)])
        .or_else([TxnOp::delete("r/a", None)]);
    let response = client.txn(txn.clone()).await?;
    assert!(response.succeeded());
    assert_eq!(response.op_responses().len(), 2);
    let response = client.txn(txn).await?;
    assert!(!response.succeeded());
    assert!(client.get("r/a", None).await?.kvs().is_empty());
    Ok(())
}

async fn leases(client: &mut Client) -> Result {
    let lease = client.lease_grant(60, None).await?.id();
    client
        .put("r/l", "v", Some(PutOptions::new().with_lease(lease)))
        .await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    let answer = answers
        .message()
        .await?
        .ok_or("an answer to a keep-alive")?;
    assert_eq!((answer.id(), answer.ttl()), (lease, 60));
    let options = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(lease, Some(options)).await?;
    assert_eq!(
        (left.granted_ttl(), left.keys()),
        (60, &[b"r/l".to_vec()][..])
    );
    assert!(
        client
            .leases()
            .await?
            .leases()
            .iter()
            .any(|known| known.id() == lease)
    );
    client.lease_revoke(lease).await?;
    assert!(client.get("r/l", None).await?.kvs().is_empty());
    assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), -1);
    Ok(())
}

async fn watches(client: &mut Client) -> Result {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("r/w/", Some(options)).await?;
    client.put("r/w/1", "a", None).await?;
    client.put("r/w/1", "b", None).await?;
    client.delete("r/w/1", None).await?;
    let mut seen = Vec::new();
    let mut id = 0;
    while seen.len() < 3 {
        let response = stream.message().await?.ok_or("the stream goes on")?;
        id = response.watch_id();
        for event in response.events() {
            let value = event.kv().map(|kv| kv.value().to_vec()).unwrap_or_default();
            let before = event.prev_kv().map(|kv| kv.value().to_vec());
            seen.push((event.event_type(), value, before));
        }
    }
    assert_eq!(
        seen,
        [
            (EventType::Put, b"a".to_vec(), None),
            (EventType::Put, b"b".to_vec(), Some(b"a".to_vec())),
            (EventType::Delete, Vec::new(), Some(b"b".to_vec())),
        ]
    );
    stream.request_progress().await?;
    let progress = stream.message().await?.ok_or("a progress answer")?;
    assert!(progress.events().is_empty());
    stream.cancel(id).await?;
    Ok(())
}

async fn locks_and_elections(client: &mut Client) -> Result {
    let lease = client.lease_grant(60, None).await?.id();
    let options = || Some(LockOptions::new().with_lease(lease));
    let held = client.lock("r/lock", options()).await?;
    let other = client.lease_grant(60, None).await?.id();
    let waiting = client.lock("r/lock", Some(LockOptions::new().with_lease(other)));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), waiting)
            .await
            .is_err()
    );
    client.unlock(held.key()).await?;
    let leader = client.campaign("r/election", "first", lease).await?;
    let key = leader.leader().ok_or("a leader")?.clone();
    assert_eq!(
        client
            .leader("r/election")
            .await?
            .kv()
            .ok_or("a key")?
            .value(),
        b"first"
    );
    let options = etcd_client::ProclaimOptions::new().with_leader(key.clone());
    client.proclaim("second", Some(options)).await?;
    assert_eq!(
        client
            .leader("r/election")
            .await?
            .kv()
            .ok_or("a key")?
            .value(),
        b"second"
    );
    let options = etcd_client::ResignOptions::new().with_leader(key);
    client.resign(Some(options)).await?;
    assert!(client.leader("r/election").await.is_err());
    Ok(())
}

async fn maintenance(client: &mut Client) -> Result {
    let status = client.status().await?;
    assert!(status.version().starts_with("3."), "{}", status.version());
    assert_eq!(client.member_list().await?.members().len(), 1);
    client.hash_kv(0).await?;
    client.defragment().await?;
    let mut snapshot = client.snapshot().await?;
    let mut size = 0;
    while let Some(chunk) = snapshot.message().await? {
        size += chunk.blob().len();
    }
    assert_eq!(size % 512, 32, "whole pages and a checksum");
    let revision = client
        .put("r/compact", "x", None)
        .await?
        .header()
        .map_or(0, |h| h.revision());
    client.compact(revision, None).await?;
    assert!(client.compact(revision, None).await.is_err());
    Ok(())
}

async fn auth(client: &mut Client, endpoint: &str) -> Result {
    client.role_add("root").await?;
    client.user_add("root", "pw", None).await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("reader").await?;
    let permission = etcd_client::Permission::read("r/").with_prefix();
    client.role_grant_permission("reader", permission).await?;
    client.user_add("alice", "alicepw", None).await?;
    client.user_grant_role("alice", "reader").await?;
    client.auth_enable().await?;
    assert!(client.get("r/a", None).await.is_err());
    let as_user =
        |name: &str, password: &str| etcd_client::ConnectOptions::new().with_user(name, password);
    let mut alice = Client::connect([endpoint], Some(as_user("alice", "alicepw"))).await?;
    alice
        .get("r/", Some(GetOptions::new().with_prefix()))
        .await?;
    let text = alice
        .put("r/a", "x", None)
        .await
        .err()
        .ok_or("only reads")?
        .to_string();
    assert!(text.contains("etcdserver: permission denied"), "{text}");
    assert!(
        Client::connect([endpoint], Some(as_user("alice", "wrong")))
            .await
            .is_err()
    );
    let mut root = Client::connect([endpoint], Some(as_user("root", "pw"))).await?;
    root.auth_disable().await?;
    client.get("r/a", None).await?;
    Ok(())
}
