//! The consistency check.

use std::fmt;

use crate::error::Error;
use crate::format::{
    BUCKET_HEADER, BucketHeader, ELEMENT_BUCKET, FLAG_FREELIST, MAX_DEPTH, Meta, NO_FREELIST,
    PAGE_HEADER, PageId, u64_at,
};
use crate::page::Page;
use crate::space::Space;
use crate::walk::PageSet;

/// After so many findings the check gives up: the file is lost, and the list must stay printable.
const MAX_FINDINGS: usize = 10_000;

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckError {
    /// The page it is about.
    pub page: u64,
    text: String,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for CheckError {}

/// How much is asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// What bbolt's check asks.
    Readers,
    /// What bbolt's writer needs on top of it.
    Writers,
}

/// The range that the keys of a subtree must lie in.
#[derive(Clone, Copy, Default)]
struct Bounds<'a> {
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
}

struct Checker<'a> {
    space: Space<'a>,
    rules: Rules,
    reached: PageSet,
    /// Root pages of buckets still to visit.
    roots: Vec<PageId>,
    findings: Vec<CheckError>,
}

pub(crate) fn check(space: Space<'_>, meta: &Meta, rules: Rules) -> Vec<CheckError> {
    let mut checker = Checker {
        space,
        rules,
        reached: PageSet::new(space.high_water()),
        roots: vec![meta.root],
        findings: Vec::new(),
    };
    let freed = checker.freelist(meta.freelist);
    while let Some(root) = checker.roots.pop() {
        checker.subtree(root, Bounds::default(), 0);
    }
    if let Some(freed) = freed {
        checker.compare(&freed);
    }
    checker.findings
}

impl<'a> Checker<'a> {
    fn report(&mut self, page: PageId, text: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(CheckError { page, text });
        }
    }

    fn report_error(&mut self, error: &Error) {
        let page = if let Error::Corrupt { page, .. } = error {
            *page
        } else {
            0
        };
        self.report(page, error.to_string());
    }

    /// Marks a page and its overflow as reached; false if something else has reached it before.
    fn reach(&mut self, id: PageId, pages: u64) -> bool {
        let mut alone = true;
        for id in id..id + pages {
            if !self.reached.insert(id) {
                self.report(id, format!("page {id}: multiple references"));
                alone = false;
            }
        }
        alone
    }

    /// Reads the persisted freelist, if there is one.
    fn freelist(&mut self, id: PageId) -> Option<PageSet> {
        if id == NO_FREELIST {
            return None;
        }
        let header = match self.space.header(id) {
            Ok(header) if header.flags == FLAG_FREELIST => header,
            Ok(header) => {
                let text = format!(
                    "page {id}: invalid type: flags {:#06x}, not a freelist",
                    header.flags
                );
                self.report(id, text);
                return None;
            }
            Err(e) => {
                self.report_error(&e);
                return None;
            }
        };
        self.reach(id, u64::from(header.overflow) + 1);
        let bytes = match self.space.run(header) {
            Ok(bytes) => &bytes[PAGE_HEADER..],
            Err(e) => {
                self.report_error(&e);
                return None;
            }
        };
        let (count, bytes) = match header.count {
            0xFFFF => (u64_at(bytes, 0).unwrap_or(u64::MAX), &bytes[8..]),
            count => (u64::from(count), bytes),
        };
        if count > bytes.len() as u64 / 8 {
            self.report(id, format!("page {id}: freelist longer than its pages"));
            return None;
        }
        let mut freed = PageSet::new(self.space.high_water());
        for i in 0..count as usize {
            let page = u64_at(bytes, i * 8).unwrap_or(0);
            if page < 2 || page >= self.space.high_water() {
                self.report(page, format!("page {page}: out of bounds: in the freelist"));
            } else if !freed.insert(page) {
                self.report(page, format!("page {page}: already freed"));
            }
        }
        Some(freed)
    }

    /// Every page must be either reached or free.
    fn compare(&mut self, freed: &PageSet) {
        for id in 2..self.space.high_water() {
            match (self.reached.contains(id), freed.contains(id)) {
                (true, true) => self.report(id, format!("page {id}: reachable freed")),
                (false, false) => self.report(id, format!("page {id}: unreachable unfreed")),
                _ => {}
            }
            if self.findings.len() >= MAX_FINDINGS {
                return;
            }
        }
    }

    /// Checks a page and what is below it. Pages already reached are not entered again, and the depth is
    /// limited, so this ends on every file.
    fn subtree(&mut self, id: PageId, bounds: Bounds<'a>, depth: usize) {
        if depth >= MAX_DEPTH {
            self.report(id, format!("page {id}: tree too deep"));
            return;
        }
        let page = match self.space.page(id) {
            Ok(page) => page,
            Err(e) => return self.report_error(&e),
        };
        if !self.reach(id, (page.len() / self.space.page_size()) as u64) {
            return;
        }
        if page.count() == 0 && (!page.is_leaf() || (depth > 0 && self.rules == Rules::Writers)) {
            self.report(id, format!("page {id}: empty page"));
        }
        self.keys(&page, bounds);
        if page.is_leaf() {
            self.elements(&page);
            return;
        }
        for i in 0..page.count() {
            let (Ok((low, _)), Ok(child)) = (page.key(i), page.child(i)) else {
                continue;
            };
            let next = page
                .key(i + 1)
                .ok()
                .filter(|_| i + 1 < page.count())
                .map(|(key, _)| key);
            self.subtree(
                child,
                Bounds {
                    low: Some(low),
                    high: next.or(bounds.high),
                },
                depth + 1,
            );
        }
    }

    /// Keys must ascend and lie in the bounds.
    fn keys(&mut self, page: &Page<'a>, bounds: Bounds<'a>) {
        let kind = if page.is_leaf() { "leaf" } else { "branch" };
        let at = |i: usize, key: &[u8]| {
            format!("key[{i}]=(hex){} on {kind} page({})", Hex(key), page.id())
        };
        let mut last: Option<&[u8]> = None;
        for i in 0..page.count() {
            let key = match page.key(i) {
                Ok((key, _)) => key,
                Err(e) => {
                    self.report_error(&e);
                    continue;
                }
            };
            if let (0, Some(low)) = (i, bounds.low) {
                if key < low {
                    let text = format!(
                        "the first {} needs to be >= the key in the ancestor ({})",
                        at(i, key),
                        Hex(low)
                    );
                    self.report(page.id(), text);
                } else if key != low && self.rules == Rules::Writers {
                    let text = format!(
                        "the first {} differs from its branch key ({})",
                        at(i, key),
                        Hex(low)
                    );
                    self.report(page.id(), text);
                }
            }
            if let Some(last) = last
                && key <= last
            {
                let found = if key == last { "=" } else { "<" };
                let text = format!(
                    "{} needs to be > (found {found}) than previous element (hex){}",
                    at(i, key),
                    Hex(last)
                );
                self.report(page.id(), text);
            }
            if let Some(high) = bounds.high
                && key >= high
            {
                let text = format!(
                    "{} needs to be < than key of the next element in ancestor (hex){}",
                    at(i, key),
                    Hex(high)
                );
                self.report(page.id(), text);
            }
            if key.is_empty() && self.rules == Rules::Writers {
                self.report(page.id(), format!("{} is empty", at(i, key)));
            }
            last = Some(key);
        }
    }

    /// Values must lie inside of the page, and buckets must have a tree or an inline page.
    fn elements(&mut self, page: &Page<'a>) {
        for i in 0..page.count() {
            let element = match page.element(i) {
                Ok(element) => element,
                Err(e) => {
                    self.report_error(&e);
                    continue;
                }
            };
            if element.flags & ELEMENT_BUCKET == 0 {
                continue;
            }
            let Some(header) = BucketHeader::decode(element.value) else {
                self.report(
                    page.id(),
                    format!("page {}: bucket value shorter than its header", page.id()),
                );
                continue;
            };
            if header.root != 0 {
                self.roots.push(header.root);
                continue;
            }
            match Page::inline(&element.value[BUCKET_HEADER..], element.place) {
                Ok(inline) => self.inline(page.id(), &inline),
                Err(e) => self.report_error(&e),
            }
        }
    }

    fn inline(&mut self, holder: PageId, inline: &Page<'a>) {
        self.keys(inline, Bounds::default());
        for i in 0..inline.count() {
            match inline.element(i) {
                Ok(element) if element.flags & ELEMENT_BUCKET == 0 => {}
                Ok(_) => {
                    let text = format!("page {holder}: bucket inside of an inline bucket");
                    self.report(holder, text);
                }
                Err(e) => self.report_error(&e),
            }
        }
    }
}

/// Hexadecimal digits of a key; a long one is cut.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 256;
        self.0
            .iter()
            .take(SHOWN)
            .try_for_each(|b| write!(f, "{b:02x}"))?;
        if self.0.len() > SHOWN {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}
