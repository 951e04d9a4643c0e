//! What the tests share.
#![allow(dead_code)] // Each test binary uses its own part.
#![allow(clippy::disallowed_methods)] // Tests are at the edge.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, Bucket, Config, Position, Writer};
use bytes::Bytes;
use disk::{Fs, RealFs};

/// What a database should hold.
pub type Model = BTreeMap<(Bucket, Vec<u8>), Vec<u8>>;

pub fn real() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

/// Commits only when told to, unless the test changes that.
pub fn config(dir: &Path) -> Config {
    Config {
        batch_interval: Duration::from_hours(1),
        ..Config::new(dir.join("db"))
    }
}

pub fn open(dir: &Path) -> (Arc<Backend>, Writer) {
    backend::open(real(), config(dir)).unwrap()
}

pub fn at(index: u64) -> Position {
    Position { index, term: 1 }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Everything but what makes up the position.
pub fn content(backend: &Backend) -> Model {
    let mut content = Model::new();
    for bucket in Bucket::ALL {
        backend
            .for_each(bucket, b"", None, &mut |key, value| {
                content.insert((bucket, key.to_vec()), value.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    strip_position(&mut content);
    content
}

pub fn strip_position(content: &mut Model) {
    for key in ["consistent_index", "term", "confState"] {
        content.remove(&(Bucket::Meta, key.as_bytes().to_vec()));
    }
}

/// Value of a revision key as etcd makes them, so that the `key` bucket is appended to.
pub fn revision(main: u64) -> Vec<u8> {
    let mut key = main.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(0_u64.to_be_bytes());
    key
}
