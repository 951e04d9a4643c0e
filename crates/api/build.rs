//! Compiles our `.proto` files without `protoc`.

use std::error::Error;

const FILES: &[&str] = &[
    "mvcc.proto",
    "authdata.proto",
    "membership.proto",
    "header.proto",
    "kv.proto",
    "watch.proto",
    "lease.proto",
    "leasedata.proto",
    "cluster.proto",
    "maintenance.proto",
    "auth.proto",
    "raft_internal.proto",
    "lock.proto",
    "election.proto",
    "health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = protox::compile(FILES, ["proto"])?;
    for message in files
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
    {
        for field in &mut message.field {
            readable_name(field);
        }
    }
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".mvccpb.KeyValue", "crate::RawKv")
        .build_client(true)
        .build_server(true)
        .build_transport(true)
        .compile_fds(files)?;
    Ok(())
}

/// `peerURLs` would become `peer_ur_ls` in Rust. The name on the wire does not exist (numbers do), and the
/// JSON name is kept.
fn readable_name(field: &mut prost_types::FieldDescriptorProto) {
    let better = match field.name() {
        "peerURLs" => "peer_urls",
        "clientURLs" => "client_urls",
        _ => return,
    };
    field.name = Some(better.to_owned());
}
