use sha1::{Digest, Sha1};

/// Id of a member: the first 8 bytes of the SHA-1 of its sorted peer URLs, the cluster token and,
/// for members added at run time (`added_at`, Unix seconds), the time.
///
/// Founding members use `--initial-cluster-token` (or the discovery token) and no time; members
/// added by an RPC use an empty token and the time of the call.
pub fn member_id(peer_urls: &[String], token: &str, added_at: Option<i64>) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_at {
        hash.update(seconds.to_string());
    }
    first_eight(&hash.finalize())
}

/// Id of a cluster: the first 8 bytes of the SHA-1 of its founding members' ids in ascending order.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

/// Whether raft can use the id: 0 and the two highest values have meanings of their own.
pub fn is_valid_member_id(id: u64) -> bool {
    (1..u64::MAX - 1).contains(&id)
}

fn first_eight(digest: &[u8]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn member_ids_are_those_of_etcd() {
        assert_eq!(
            member_id(&url("http://127.0.0.1:21411"), "tok", None),
            0x1954_7793_d818_bab2
        );
        assert_eq!(
            member_id(&url("http://127.0.0.1:21161"), "TOK", None),
            0x8334_8202_5a22_f2ae
        );
        // A member with all defaults; the pair is in every tutorial.
        let default = member_id(&url("http://localhost:2380"), "etcd-cluster", None);
        assert_eq!(default, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[default]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn order_of_urls_and_members_does_not_matter() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:2".to_owned());
        let forth = member_id(&[a.clone(), b.clone()], "t", Some(5));
        assert_eq!(forth, member_id(&[b, a], "t", Some(5)));
        assert_eq!(cluster_id(&[1, 2, 3]), cluster_id(&[3, 1, 2]));
    }

    #[test]
    fn ids_reserved_by_raft_are_refused() {
        for (id, valid) in [
            (0, false),
            (1, true),
            (u64::MAX, false),
            (u64::MAX - 1, false),
        ] {
            assert_eq!(is_valid_member_id(id), valid);
        }
    }
}
