//! Writing a changed node's elements as a page image.

use crate::error::{Error, corrupt};
use crate::format::{ELEMENT, FLAG_LEAF, Header, PAGE_HEADER};
use crate::nodes::{BranchEntry, Child, LeafEntry};
use crate::space::Space;

/// Writes the image of an inline bucket's page into `out`, which has exactly its length.
pub(crate) fn inline(
    space: &Space<'_>,
    entries: &[LeafEntry],
    out: &mut [u8],
) -> Result<(), Error> {
    let header = Header {
        id: 0,
        flags: FLAG_LEAF,
        count: entries.len() as u16,
        overflow: 0,
    };
    leaf(space, entries, header, out)
}

fn too_small() -> Error {
    corrupt(0, "page image longer than planned")
}

/// Writes a leaf into `out`, whose length is that of the page with its overflow. What is left over is
/// filled with zeros.
pub(crate) fn leaf(
    space: &Space<'_>,
    entries: &[LeafEntry],
    header: Header,
    out: &mut [u8],
) -> Result<(), Error> {
    header.encode(out);
    let data_at = PAGE_HEADER + entries.len() * ELEMENT;
    if data_at > out.len() {
        return Err(too_small());
    }
    let (table, mut data) = out.split_at_mut(data_at);
    let mut pos = entries.len() * ELEMENT;
    for (entry, element) in entries
        .iter()
        .zip(table[PAGE_HEADER..].chunks_exact_mut(ELEMENT))
    {
        let len = (entry.key_len + entry.value_len) as usize;
        element[0..4].copy_from_slice(&entry.flags.to_le_bytes());
        element[4..8].copy_from_slice(&(pos as u32).to_le_bytes());
        element[8..12].copy_from_slice(&entry.key_len.to_le_bytes());
        element[12..16].copy_from_slice(&entry.value_len.to_le_bytes());
        let (here, rest) = data.split_at_mut_checked(len).ok_or_else(too_small)?;
        here.copy_from_slice(space.bytes(entry.place, len));
        data = rest;
        pos = pos + len - ELEMENT;
    }
    data.fill(0);
    Ok(())
}

/// Writes a branch, in the same way; all its children must have pages.
pub(crate) fn branch(
    space: &Space<'_>,
    entries: &[BranchEntry],
    header: Header,
    out: &mut [u8],
) -> Result<(), Error> {
    header.encode(out);
    let data_at = PAGE_HEADER + entries.len() * ELEMENT;
    if data_at > out.len() {
        return Err(too_small());
    }
    let (table, mut data) = out.split_at_mut(data_at);
    let mut pos = entries.len() * ELEMENT;
    for (entry, element) in entries
        .iter()
        .zip(table[PAGE_HEADER..].chunks_exact_mut(ELEMENT))
    {
        let Child::Page(child) = entry.child else {
            return Err(corrupt(0, "child without a page"));
        };
        let len = entry.key_len as usize;
        element[0..4].copy_from_slice(&(pos as u32).to_le_bytes());
        element[4..8].copy_from_slice(&entry.key_len.to_le_bytes());
        element[8..16].copy_from_slice(&child.to_le_bytes());
        let (here, rest) = data.split_at_mut_checked(len).ok_or_else(too_small)?;
        here.copy_from_slice(space.bytes(entry.place, len));
        data = rest;
        pos = pos + len - ELEMENT;
    }
    data.fill(0);
    Ok(())
}
