//! Steps of opening a file: creating it, finding its page size and its last state, mapping it.

use std::path::Path;

use disk::{File, Fs, Map};

use crate::error::{Error, corrupt};
use crate::format::{
    FLAG_FREELIST, FLAG_LEAF, Header, MAX_PAGE_SIZE, META_BODY, MIN_PAGE_SIZE, Meta, NO_FREELIST,
    PAGE_HEADER,
};
use crate::options::Options;

/// Pages of a new file: two metas, an empty freelist, an empty root.
const NEW_PAGES: u64 = 4;

/// Writes the first pages into an empty file.
///
/// The metas are written after the other pages are durable. A crash in between leaves a short file with
/// nothing where the metas belong; nobody has been told that such a database exists, so it is begun anew.
pub(crate) fn create_if_new(
    fs: &dyn Fs,
    file: &dyn File,
    path: &Path,
    options: &Options,
) -> Result<(), Error> {
    let page_size = match options.page_size {
        0 => os_page_size(),
        size if valid_page_size(size) => size,
        _ => return Err(Error::Invalid),
    };
    let size = u64::from(page_size);
    let len = file.len().map_err(Error::io("read length of database"))?;
    if len > NEW_PAGES * size || !zeros_at_start(file, len.min(2 * size))? {
        return Ok(());
    }
    let page = |id, flags| {
        let mut page = vec![0; page_size as usize];
        Header {
            id,
            flags,
            count: 0,
            overflow: 0,
        }
        .encode(&mut page);
        page
    };
    let meta = |txid| Meta {
        page_size,
        root: 3,
        sequence: 0,
        freelist: 2,
        high_water: NEW_PAGES,
        txid,
    };
    let tail = [page(2, FLAG_FREELIST), page(3, FLAG_LEAF)].concat();
    let metas = [meta(0).encode_page(0), meta(1).encode_page(1)].concat();
    for (bytes, offset) in [(tail, 2 * size), (metas, 0)] {
        file.write_all_at(&bytes, offset)
            .map_err(Error::io("write new database"))?;
        if !options.no_sync {
            file.sync_data().map_err(Error::io("sync new database"))?;
        }
    }
    if !options.no_sync {
        fs.sync_dir(&disk::parent(path))
            .map_err(Error::io("sync directory of new database"))?;
    }
    Ok(())
}

fn zeros_at_start(file: &dyn File, len: u64) -> Result<bool, Error> {
    let mut buf = vec![0; len as usize];
    file.read_exact_at(&mut buf, 0)
        .map_err(Error::io("read database"))?;
    Ok(buf.iter().all(|b| *b == 0))
}

fn os_page_size() -> u32 {
    u32::try_from(rustix::param::page_size())
        .ok()
        .filter(|s| valid_page_size(*s))
        .unwrap_or(4096)
}

fn valid_page_size(size: u32) -> bool {
    size.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&size)
}

/// The newest valid meta page, checked against the length of the file.
pub(crate) fn read_meta(file: &dyn File) -> Result<Meta, Error> {
    let len = file.len().map_err(Error::io("read length of database"))?;
    let page_size = find_page_size(file, len)?;
    if len < 2 * u64::from(page_size) {
        return Err(Error::FileTooSmall(len));
    }
    let first = meta_at(file, 0, page_size);
    let second = meta_at(file, u64::from(page_size), page_size);
    // The consistent copy puts any number into page 0: only the greater number tells the newer one.
    let meta = match (first, second) {
        (Ok(a), Ok(b)) => {
            if a.txid >= b.txid {
                a
            } else {
                b
            }
        }
        (Ok(meta), Err(_)) | (Err(_), Ok(meta)) => meta,
        (Err(e), Err(_)) => return Err(e),
    };
    validate(&meta, len)?;
    Ok(meta)
}

fn meta_at(file: &dyn File, offset: u64, page_size: u32) -> Result<Meta, Error> {
    let mut body = [0; META_BODY];
    file.read_exact_at(&mut body, offset + PAGE_HEADER as u64)
        .map_err(|_| Error::Invalid)?;
    let meta = Meta::decode(&body)?;
    if meta.page_size == page_size {
        Ok(meta)
    } else {
        Err(Error::Invalid)
    }
}

/// Takes the page size from the first meta page, or, if that is damaged, from the second one, whose
/// place depends on the size itself.
fn find_page_size(file: &dyn File, len: u64) -> Result<u32, Error> {
    let size_at = |offset: u64| {
        let mut body = [0; META_BODY];
        file.read_exact_at(&mut body, offset + PAGE_HEADER as u64)
            .ok()?;
        Meta::decode(&body)
            .ok()
            .map(|m| m.page_size)
            .filter(|s| valid_page_size(*s))
    };
    if let Some(size) = size_at(0) {
        return Ok(size);
    }
    let mut offset = u64::from(MIN_PAGE_SIZE);
    while offset <= u64::from(MAX_PAGE_SIZE) && offset < len.saturating_sub(1024) {
        if let Some(size) = size_at(offset) {
            return Ok(size);
        }
        offset *= 2;
    }
    if len == 0 {
        Err(Error::Invalid)
    } else {
        Ok(os_page_size())
    }
}

/// A valid checksum does not make the numbers sensible.
fn validate(meta: &Meta, len: u64) -> Result<(), Error> {
    let in_file = |id| id >= 2 && id < meta.high_water;
    if !in_file(meta.root) {
        return Err(corrupt(meta.root, "root bucket out of bounds"));
    }
    if meta.freelist != NO_FREELIST && !in_file(meta.freelist) {
        return Err(corrupt(meta.freelist, "freelist out of bounds"));
    }
    if meta.high_water > len / u64::from(meta.page_size) {
        return Err(corrupt(
            meta.high_water,
            "file shorter than its high-water mark",
        ));
    }
    Ok(())
}

/// How much to map when `needed` bytes are: the steps that bbolt takes, powers of two up to 1 GiB, then
/// whole GiB.
pub(crate) fn map_len(options: &Options, needed: u64) -> u64 {
    const SMALLEST: u64 = 32 << 10;
    const STEP: u64 = 1 << 30;
    let wanted = needed.max(options.initial_mmap);
    if wanted <= STEP {
        wanted.next_power_of_two().max(SMALLEST)
    } else {
        wanted.div_ceil(STEP).saturating_mul(STEP)
    }
}

/// Maps at least `needed` bytes.
pub(crate) fn map(
    file: &dyn File,
    options: &Options,
    needed: u64,
    file_len: u64,
) -> Result<Map, Error> {
    let len = map_len(options, needed);
    let map = file
        .map(len, options.populate)
        .map_err(Error::io("map database"))?;
    if options.mlock {
        map.lock(file_len.min(len))
            .map_err(Error::io("lock database in memory"))?;
    }
    Ok(map)
}
