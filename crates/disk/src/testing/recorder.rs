use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::{Fault, Faults, OpKind};
use super::image::{self, Base, NodeId, Op, Tree};
use crate::{DirEntry, File, Fs, LockKind, Map, OpenOptions, RealFs};

const ROOT: NodeId = 0;

/// A file system over a real directory that records what is done; see the module's text.
#[derive(Clone, Debug)]
pub struct RecordingFs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    base: Base,
    live: Tree,
    nodes: usize,
    ops: Vec<Op>,
    faults: Faults,
}

impl RecordingFs {
    /// Records what happens below the directory `root`, which must exist. What is in it now counts as
    /// durable.
    pub fn new(root: &Path) -> io::Result<Self> {
        let mut state = State {
            nodes: ROOT + 1,
            ..State::default()
        };
        state.scan(ROOT, root)?;
        state.live.clone_from(&state.base.tree);
        let shared = Shared {
            root: root.to_path_buf(),
            state: Mutex::new(state),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// How many operations (changes and syncs) have been recorded.
    pub fn op_count(&self) -> usize {
        self.shared.lock().ops.len()
    }

    /// What operation `n` (from 0) was.
    pub fn op_kind(&self, n: usize) -> Option<OpKind> {
        self.shared.lock().ops.get(n).map(Op::kind)
    }

    /// Writes into `target` (created if missing, expected empty) what a crash directly after the first
    /// `n` operations can leave. Synced operations are there. Of the others
    ///
    /// * with seed 0 none is there,
    /// * with seed 1 all are there,
    /// * with any other seed some are: bytes written are lost, kept, or torn at 512-byte sectors;
    ///   changes of a file's size and of a directory's names are kept up to some point in their order.
    ///
    /// A file's operations become durable by its sync, names by `sync_dir` of their directory (for a
    /// rename: of the new one).
    pub fn crash_image(&self, n: usize, seed: u64, target: &Path) -> io::Result<()> {
        let state = self.shared.lock();
        let n = n.min(state.ops.len());
        image::build(&state.base, &state.ops[..n], ROOT, seed, target)
    }

    /// Arms a failure. Several can be armed; each counts calls for itself. A failing write leaves the
    /// first half of its bytes in the file, a failing sync makes nothing durable.
    pub fn fail(&self, fault: Fault) {
        self.shared.lock().faults.arm(fault);
    }

    /// Disarms all failures.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// The directory that is recorded.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names that lead from the root to `path`.
    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let inside = path.strip_prefix(&self.root).map_err(|_| {
            io::Error::other(format!(
                "{} is outside of the recorded directory {}",
                path.display(),
                self.root.display()
            ))
        })?;
        Ok(inside
            .components()
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .collect())
    }
}

impl State {
    /// Takes over a directory's present content as durable.
    fn scan(&mut self, dir: NodeId, path: &Path) -> io::Result<()> {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let node = self.nodes;
            self.nodes += 1;
            names.insert(entry.file_name().to_string_lossy().into_owned(), node);
            if entry.file_type()?.is_dir() {
                self.scan(node, &entry.path())?;
            } else {
                self.base.content.insert(node, fs::read(entry.path())?);
            }
        }
        self.base.tree.insert(dir, names);
        Ok(())
    }

    fn find(&self, names: &[String]) -> Option<NodeId> {
        names
            .iter()
            .try_fold(ROOT, |dir, name| self.live.get(&dir)?.get(name).copied())
    }

    /// The directory a path lies in, and the path's last name.
    fn place(&self, names: &[String]) -> io::Result<(NodeId, String)> {
        let (last, dirs) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(dirs).ok_or(io::ErrorKind::NotFound)?;
        Ok((dir, last.clone()))
    }

    fn link(&mut self, dir: NodeId, name: String, is_dir: bool) -> NodeId {
        let node = self.nodes;
        self.nodes += 1;
        if is_dir {
            self.live.insert(node, BTreeMap::new());
            // A directory is known as one even if none of its names ever reaches the disk.
            self.base.tree.insert(node, BTreeMap::new());
        }
        self.live.entry(dir).or_default().insert(name.clone(), node);
        self.ops.push(Op::Link { dir, name, node });
        node
    }

    fn unlink(&mut self, names: &[String]) -> io::Result<()> {
        let (dir, name) = self.place(names)?;
        self.live.entry(dir).or_default().remove(&name);
        self.ops.push(Op::Unlink { dir, name });
        Ok(())
    }
}

impl Fs for RecordingFs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let names = self.shared.names(path)?;
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::Open)?;
        let existed = state.find(&names).is_some();
        if !existed && (options.create || options.create_new) {
            state.faults.hit(OpKind::Create)?;
        }
        let file = RealFs.open(path, options)?;
        let node = match state.find(&names) {
            Some(node) => node,
            None => {
                let (dir, name) = state.place(&names)?;
                state.link(dir, name, false)
            }
        };
        if existed && options.truncate {
            state.ops.push(Op::SetLen { node, len: 0 });
        }
        Ok(Arc::new(RecordingFile {
            shared: self.shared.clone(),
            node,
            file,
        }))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        let names = self.shared.names(path)?;
        let mut state = self.shared.lock();
        if state.find(&names).is_some() {
            return RealFs.create_dir_all(path, mode);
        }
        state.faults.hit(OpKind::Create)?;
        RealFs.create_dir_all(path, mode)?;
        for depth in 1..=names.len() {
            if state.find(&names[..depth]).is_none() {
                let (dir, name) = state.place(&names[..depth])?;
                state.link(dir, name, true);
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_names, to_names) = (self.shared.names(from)?, self.shared.names(to)?);
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::Rename)?;
        let (from_place, to_place) = (state.place(&from_names)?, state.place(&to_names)?);
        RealFs.rename(from, to)?;
        if let Some(node) = state
            .live
            .entry(from_place.0)
            .or_default()
            .remove(&from_place.1)
        {
            state
                .live
                .entry(to_place.0)
                .or_default()
                .insert(to_place.1.clone(), node);
        }
        state.ops.push(Op::Move {
            from: from_place,
            to: to_place,
        });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let names = self.shared.names(path)?;
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::Remove)?;
        RealFs.remove_file(path)?;
        state.unlink(&names)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let names = self.shared.names(path)?;
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::Remove)?;
        RealFs.remove_dir_all(path)?;
        if state.find(&names).is_some() {
            state.unlink(&names)
        } else {
            Ok(())
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let names = self.shared.names(path)?;
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::SyncDir)?;
        // The real sync is left out: images come from the record, and tests need the speed.
        let dir = state.find(&names).ok_or(io::ErrorKind::NotFound)?;
        state.ops.push(Op::SyncDir { dir });
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        RealFs.exists(path)
    }
}

#[derive(Debug)]
struct RecordingFile {
    shared: Arc<Shared>,
    node: NodeId,
    file: Arc<dyn File>,
}

impl RecordingFile {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::Sync)?;
        state.ops.push(Op::Sync { node: self.node });
        Ok(())
    }
}

impl File for RecordingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.lock().faults.hit(OpKind::Read)?;
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.shared.lock();
        let failed = state.faults.hit(OpKind::Write);
        let data = if failed.is_err() {
            &buf[..buf.len() / 2]
        } else {
            buf
        };
        if !data.is_empty() {
            self.file.write_all_at(data, offset)?;
            state.ops.push(Op::Write {
                node: self.node,
                offset,
                data: data.to_vec(),
            });
        }
        failed
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::SetLen)?;
        self.file.set_len(len)?;
        state.ops.push(Op::SetLen {
            node: self.node,
            len,
        });
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.faults.hit(OpKind::Allocate)?;
        self.file.allocate(len)?;
        state.ops.push(Op::Allocate {
            node: self.node,
            len,
        });
        Ok(())
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<()> {
        self.shared.lock().faults.hit(OpKind::Lock)?;
        self.file.try_lock(kind)
    }

    fn unlock(&self, kind: LockKind) -> io::Result<()> {
        self.file.unlock(kind)
    }

    fn map(&self, len: u64, populate: bool) -> io::Result<Map> {
        self.shared.lock().faults.hit(OpKind::Map)?;
        self.file.map(len, populate)
    }
}
