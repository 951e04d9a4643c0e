use crate::error::{Error, corrupt};
use crate::format::{ELEMENT, FLAG_BRANCH, FLAG_LEAF, Header, PAGE_HEADER, PageId, u32_at, u64_at};

/// Where bytes are: an offset in the mapping (chunk 0) or in a chunk of a write transaction's arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) chunk: u32,
    pub(crate) offset: u64,
}

impl Place {
    pub(crate) fn plus(self, bytes: usize) -> Place {
        Place {
            offset: self.offset + bytes as u64,
            ..self
        }
    }
}

/// A branch or leaf page with its overflow, or the image of an inline page. Nothing in it is trusted:
/// each access stays inside `data` or fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    data: &'a [u8],
    place: Place,
    id: PageId,
    count: usize,
    leaf: bool,
}

/// One element of a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) flags: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Where the key is; the value follows it directly.
    pub(crate) place: Place,
}

impl<'a> Page<'a> {
    /// Views a whole run of pages. `header` is the one that `data` starts with.
    pub(crate) fn new(data: &'a [u8], place: Place, header: Header) -> Result<Page<'a>, Error> {
        let leaf = match header.flags {
            FLAG_LEAF => true,
            FLAG_BRANCH => false,
            _ => return Err(corrupt(header.id, "invalid type")),
        };
        let count = usize::from(header.count);
        if PAGE_HEADER + count * ELEMENT > data.len() {
            return Err(corrupt(header.id, "element table longer than the page"));
        }
        Ok(Page {
            data,
            place,
            id: header.id,
            count,
            leaf,
        })
    }

    /// Views the page image that follows the header of an inline bucket's value.
    pub(crate) fn inline(data: &'a [u8], place: Place) -> Result<Page<'a>, Error> {
        let header = Header::decode(data).ok_or(corrupt(0, "inline bucket shorter than a page"))?;
        if header.flags != FLAG_LEAF {
            return Err(corrupt(0, "inline bucket is not a leaf"));
        }
        Page::new(data, place, Header { id: 0, ..header })
    }

    pub(crate) fn id(&self) -> PageId {
        self.id
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// Bytes of the page with its overflow.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    fn element_bytes(&self, index: usize) -> Result<(usize, &'a [u8; ELEMENT]), Error> {
        let at = PAGE_HEADER + index * ELEMENT;
        let bytes = self
            .data
            .get(at..at + ELEMENT)
            .and_then(|b| b.try_into().ok());
        bytes
            .map(|b| (at, b))
            .ok_or(corrupt(self.id, "element outside of the page"))
    }

    fn bytes(&self, start: usize, len: usize) -> Result<&'a [u8], Error> {
        self.data
            .get(start..start + len)
            .ok_or(corrupt(self.id, "element data outside of the page"))
    }

    /// Key of element `index`, and where it is.
    pub(crate) fn key(&self, index: usize) -> Result<(&'a [u8], Place), Error> {
        let (at, element) = self.element_bytes(index)?;
        let (pos_at, len_at) = if self.leaf { (4, 8) } else { (0, 4) };
        let pos = u32_at(element, pos_at).unwrap_or(0) as usize;
        let len = u32_at(element, len_at).unwrap_or(0) as usize;
        Ok((self.bytes(at + pos, len)?, self.place.plus(at + pos)))
    }

    /// Child page of element `index` of a branch.
    pub(crate) fn child(&self, index: usize) -> Result<PageId, Error> {
        let (_, element) = self.element_bytes(index)?;
        Ok(u64_at(element, 8).unwrap_or(0))
    }

    /// Flags of element `index` of a leaf.
    pub(crate) fn flags(&self, index: usize) -> Result<u32, Error> {
        let (_, element) = self.element_bytes(index)?;
        Ok(u32_at(element, 0).unwrap_or(0))
    }

    /// Element `index` of a leaf.
    pub(crate) fn element(&self, index: usize) -> Result<Element<'a>, Error> {
        let (at, element) = self.element_bytes(index)?;
        let field = |i| u32_at(element, i).unwrap_or(0);
        let start = at + field(4) as usize;
        let (key_len, value_len) = (field(8) as usize, field(12) as usize);
        Ok(Element {
            flags: field(0),
            key: self.bytes(start, key_len)?,
            value: self.bytes(start + key_len, value_len)?,
            place: self.place.plus(start),
        })
    }
}
