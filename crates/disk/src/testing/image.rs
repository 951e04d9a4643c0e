//! From a list of operations to the directory that a crash leaves.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Chooser, OpKind};

/// Disks write sectors of this size atomically, and nothing bigger.
const SECTOR: u64 = 512;
/// Blocks of zeros of this size are left out of image files, to keep preallocated ones cheap.
const HOLE: usize = 4096;

/// A file or directory, independent of its name.
pub(super) type NodeId = usize;
/// Names in each directory.
pub(super) type Tree = HashMap<NodeId, BTreeMap<String, NodeId>>;

/// A change, or a sync that makes changes durable.
#[derive(Debug)]
pub(super) enum Op {
    Link {
        dir: NodeId,
        name: String,
        node: NodeId,
    },
    Unlink {
        dir: NodeId,
        name: String,
    },
    Move {
        from: (NodeId, String),
        to: (NodeId, String),
    },
    Write {
        node: NodeId,
        offset: u64,
        data: Vec<u8>,
    },
    SetLen {
        node: NodeId,
        len: u64,
    },
    Allocate {
        node: NodeId,
        len: u64,
    },
    Sync {
        node: NodeId,
    },
    SyncDir {
        dir: NodeId,
    },
}

impl Op {
    pub(super) fn kind(&self) -> OpKind {
        match self {
            Op::Link { .. } => OpKind::Create,
            Op::Unlink { .. } => OpKind::Remove,
            Op::Move { .. } => OpKind::Rename,
            Op::Write { .. } => OpKind::Write,
            Op::SetLen { .. } => OpKind::SetLen,
            Op::Allocate { .. } => OpKind::Allocate,
            Op::Sync { .. } => OpKind::Sync,
            Op::SyncDir { .. } => OpKind::SyncDir,
        }
    }

    /// The directory whose sync makes this durable.
    fn dir(&self) -> Option<NodeId> {
        match self {
            Op::Link { dir, .. } | Op::Unlink { dir, .. } => Some(*dir),
            Op::Move { to, .. } => Some(to.0),
            _ => None,
        }
    }

    /// The file whose size this sets.
    fn resized(&self) -> Option<NodeId> {
        match self {
            Op::SetLen { node, .. } | Op::Allocate { node, .. } => Some(*node),
            _ => None,
        }
    }
}

/// What the disk surely had before the first operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    pub(super) tree: Tree,
    pub(super) content: HashMap<NodeId, Vec<u8>>,
}

/// How unsynced operations are treated.
enum Mode {
    LoseAll,
    KeepAll,
    Choose(Chooser),
}

impl Mode {
    /// How many of `count` unsynced operations that reach the disk in order did reach it.
    fn prefix(&mut self, count: usize) -> usize {
        match self {
            Mode::LoseAll => 0,
            Mode::KeepAll => count,
            Mode::Choose(chooser) => chooser.below(count + 1),
        }
    }
}

/// Plays `ops` onto `base` and writes what a crash after them leaves into `target`.
pub(super) fn build(
    base: &Base,
    ops: &[Op],
    root: NodeId,
    seed: u64,
    target: &Path,
) -> io::Result<()> {
    let mode = match seed {
        0 => Mode::LoseAll,
        1 => Mode::KeepAll,
        _ => Mode::Choose(Chooser::new(seed)),
    };
    let mut builder = Builder {
        disk: base.clone(),
        mode,
    };
    builder.play(ops);
    fs::create_dir_all(target)?;
    builder.write_dir(root, target)
}

struct Builder {
    disk: Base,
    mode: Mode,
}

impl Builder {
    fn play(&mut self, ops: &[Op]) {
        let mut file_synced: HashMap<NodeId, usize> = HashMap::new();
        let mut dir_synced: HashMap<NodeId, usize> = HashMap::new();
        for (i, op) in ops.iter().enumerate() {
            match op {
                Op::Sync { node } => _ = file_synced.insert(*node, i),
                Op::SyncDir { dir } => _ = dir_synced.insert(*dir, i),
                _ => {}
            }
        }
        // Names of one directory, and sizes of one file, change on the disk in the order of the calls
        // (file systems journal them); bytes do not.
        let mut names = self.budget(ops, &dir_synced, Op::dir);
        let mut sizes = self.budget(ops, &file_synced, Op::resized);
        let synced = |map: &HashMap<NodeId, usize>, node: NodeId, i: usize| {
            map.get(&node).is_some_and(|last| *last > i)
        };
        for (i, op) in ops.iter().enumerate() {
            if let Some(dir) = op.dir() {
                if synced(&dir_synced, dir, i) || take(&mut names, dir) {
                    self.change_name(op);
                }
            } else if let Some(node) = op.resized() {
                if synced(&file_synced, node, i) || take(&mut sizes, node) {
                    self.resize(op);
                }
            } else if let Op::Write { node, offset, data } = op {
                self.write(*node, *offset, data, synced(&file_synced, *node, i));
            }
        }
    }

    /// For each node, how many of its unsynced ordered operations are kept.
    fn budget(
        &mut self,
        ops: &[Op],
        synced: &HashMap<NodeId, usize>,
        node_of: fn(&Op) -> Option<NodeId>,
    ) -> HashMap<NodeId, usize> {
        let mut open: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (i, op) in ops.iter().enumerate() {
            if let Some(node) = node_of(op)
                && synced.get(&node).is_none_or(|last| *last < i)
            {
                *open.entry(node).or_default() += 1;
            }
        }
        open.into_iter()
            .map(|(node, count)| (node, self.mode.prefix(count)))
            .collect()
    }

    fn change_name(&mut self, op: &Op) {
        let tree = &mut self.disk.tree;
        match op {
            Op::Link { dir, name, node } => {
                tree.entry(*dir).or_default().insert(name.clone(), *node);
            }
            Op::Unlink { dir, name } => {
                tree.entry(*dir).or_default().remove(name);
            }
            Op::Move { from, to } => {
                // The name moved may never have reached the disk; then there is nothing to move.
                if let Some(node) = tree.entry(from.0).or_default().remove(&from.1) {
                    tree.entry(to.0).or_default().insert(to.1.clone(), node);
                }
            }
            _ => {}
        }
    }

    fn resize(&mut self, op: &Op) {
        match op {
            Op::SetLen { node, len } => {
                self.disk
                    .content
                    .entry(*node)
                    .or_default()
                    .resize(*len as usize, 0);
            }
            Op::Allocate { node, len } => {
                let content = self.disk.content.entry(*node).or_default();
                let len = content.len().max(*len as usize);
                content.resize(len, 0);
            }
            _ => {}
        }
    }

    fn write(&mut self, node: NodeId, offset: u64, data: &[u8], synced: bool) {
        let content = self.disk.content.entry(node).or_default();
        let chooser = match &mut self.mode {
            _ if synced => return put(content, offset, data),
            Mode::LoseAll => return,
            Mode::KeepAll => return put(content, offset, data),
            Mode::Choose(chooser) => chooser,
        };
        match chooser.below(4) {
            0 => {}
            1 => put(content, offset, data),
            _ => {
                if chooser.coin() {
                    // The new length got there, not all of the bytes.
                    let len = content.len().max(offset as usize + data.len());
                    content.resize(len, 0);
                }
                let mut at = 0;
                while at < data.len() {
                    let here = offset + at as u64;
                    let len = ((SECTOR - here % SECTOR) as usize).min(data.len() - at);
                    if chooser.coin() {
                        put(content, here, &data[at..at + len]);
                    }
                    at += len;
                }
            }
        }
    }

    fn write_dir(&self, dir: NodeId, target: &Path) -> io::Result<()> {
        for (name, node) in self.disk.tree.get(&dir).into_iter().flatten() {
            let path = target.join(name);
            if self.disk.tree.contains_key(node) {
                fs::create_dir_all(&path)?;
                self.write_dir(*node, &path)?;
            } else {
                let content = self.disk.content.get(node).map_or(&[][..], Vec::as_slice);
                write_file(&path, content)?;
            }
        }
        Ok(())
    }
}

/// Uses up one kept operation of `node`, if any is left.
fn take(budget: &mut HashMap<NodeId, usize>, node: NodeId) -> bool {
    match budget.get_mut(&node) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

fn put(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = offset as usize;
    let end = start + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(data);
}

#[allow(clippy::disallowed_methods)] // test images need no durability
fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = fs::File::create(path)?;
    file.set_len(content.len() as u64)?;
    for (i, block) in content.chunks(HOLE).enumerate() {
        if block.iter().any(|b| *b != 0) {
            file.write_all_at(block, (i * HOLE) as u64)?;
        }
    }
    Ok(())
}
