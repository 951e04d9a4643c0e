//! Opens any bytes as a database, reads, checks and changes it. The checksums of the meta pages are made
//! valid first, so that the fuzzer gets past them.
#![no_main]

#[path = "../../tests/exercise/mod.rs"]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for page_size in [1024, 4096] {
        for at in [0, page_size] {
            seal(&mut bytes, at);
        }
    }
    exercise::use_file(&bytes);
});

fn seal(bytes: &mut [u8], page: usize) {
    if let Some(body) = bytes.get_mut(page + 16..page + 80) {
        let sum = body[..56].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
        });
        body[56..].copy_from_slice(&sum.to_le_bytes());
    }
}
