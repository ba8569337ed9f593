//! What a daemon and its jailed processes hold: memory, descriptors, files. For a comparison of before and after.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::Daemon;

/// What was found. Of several workers, the one that has most.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// Bytes of memory in use, and the most that ever were.
    daemon_bytes: u64,
    daemon_peak: u64,
    workers_bytes: u64,
    workers_peak: u64,
    /// Open descriptors. Of a worker without the images of its components, which it keeps.
    daemon_descriptors: usize,
    worker_descriptors: usize,
    workers: usize,
    compilers: usize,
    /// In the spool, and inside workspaces of single steps.
    files: Vec<PathBuf>,
}

impl Holdings {
    /// Returns what a daemon holds now.
    pub fn of(daemon: &Daemon) -> Self {
        let pid = daemon.child.id();
        let (workers, compilers) = jailed(pid);
        let data = daemon.dir.path().join("data");
        let mut files = Vec::new();
        entries(&data.join("spool"), 0, &mut files);
        for tenant in fs::read_dir(data.join("tenants")).into_iter().flatten().flatten() {
            let kept: Vec<_> = fs::read_dir(tenant.path().join("quotas")).into_iter().flatten().flatten().collect();
            let is_kept = |path: &Path| kept.iter().any(|record| record.path().file_stem() == path.file_name());
            for workspace in fs::read_dir(tenant.path().join("workspaces")).into_iter().flatten().flatten() {
                if !is_kept(&workspace.path()) {
                    entries(&workspace.path(), 1, &mut files);
                }
            }
        }
        let descriptors = |pid| descriptors(pid).unwrap_or_default();
        Self {
            daemon_descriptors: descriptors(pid).len(),
            worker_descriptors: workers.iter().map(|pid| anonymous(&descriptors(*pid))).max().unwrap_or(0),
            workers: workers.len(),
            compilers: compilers.len(),
            files,
            ..Self::memory(pid)
        }
    }

    /// Returns only what memory a daemon and its workers use.
    pub fn memory(pid: u32) -> Self {
        let (workers, _) = jailed(pid);
        let most = |key| workers.iter().map(|pid| status(*pid, key)).max().unwrap_or(0);
        Self {
            daemon_bytes: status(pid, "VmRSS"),
            daemon_peak: status(pid, "VmHWM"),
            workers_bytes: most("VmRSS"),
            workers_peak: most("VmHWM"),
            ..Self::default()
        }
    }

    /// Returns the peaks of both.
    pub fn max(mut self, other: Self) -> Self {
        self.daemon_peak = self.daemon_peak.max(other.daemon_peak);
        self.workers_peak = self.workers_peak.max(other.workers_peak);
        self
    }

    /// Says what there is more of than before, memory aside.
    pub fn is_no_more_than(&self, before: &Self) -> Result<(), String> {
        // Of each worker the daemon holds a socket, a pipe, and what it waits for its end with. Where there are more workers
        // than before, there was a crowd: it can have opened one reader more of what all share.
        let more = self.workers.saturating_sub(before.workers);
        let of_workers = 3 * more + usize::from(more > 0);
        let counts = [
            ("descriptors of the daemon", self.daemon_descriptors, before.daemon_descriptors + of_workers),
            ("descriptors of a worker", self.worker_descriptors, before.worker_descriptors),
            ("compilers", self.compilers, before.compilers),
            ("files", self.files.len(), before.files.len()),
        ];
        match counts.iter().find(|(_, now, before)| now > before) {
            Some((what, now, before)) => Err(format!("{now} {what}, {before} before; {:?}", self.files)),
            None => Ok(()),
        }
    }

    /// Says who had more memory at some time than before: the daemon by more than `growth`, the workers by more than
    /// that and `budget`.
    pub fn has_grown_beyond(&self, before: &Self, growth: u64, budget: u64) -> Vec<String> {
        let held = [
            ("the daemon", self.daemon_peak.saturating_sub(before.daemon_bytes), growth),
            ("workers", self.workers_peak.saturating_sub(before.workers_bytes), growth + budget),
        ];
        let grown = held.iter().filter(|(_, grown, max)| grown > max);
        grown.map(|(who, grown, max)| format!("  {who} grew by {} MiB of {} MiB", grown >> 20, max >> 20)).collect()
    }

    /// Bytes by which the daemon is larger than before, now.
    pub fn growth_since(&self, before: &Self) -> (u64, u64) {
        let grown = |now: u64, before: u64| now.saturating_sub(before);
        (grown(self.daemon_bytes, before.daemon_bytes), grown(self.workers_bytes, before.workers_bytes))
    }
}

/// Returns how much memory the largest of a daemon's compilers ever had.
pub fn compilers_peak(daemon: u32) -> u64 {
    jailed(daemon).1.into_iter().map(|pid| status(pid, "VmHWM")).max().unwrap_or(0)
}

/// Returns a daemon's workers and compilers.
fn jailed(daemon: u32) -> (Vec<u32>, Vec<u32>) {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{daemon}/task")).into_iter().flatten().flatten() {
        let of_task = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(of_task.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    let role = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let (workers, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|pid| role(pid).ends_with(b"\0worker\0"));
    (workers, others.into_iter().filter(|pid| role(pid).ends_with(b"\0compile\0")).collect())
}

/// Returns a size of a process, in bytes; 0 if it is gone.
fn status(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Returns what a process has open. Of a jailed one only root can see it.
fn descriptors(pid: u32) -> Option<Vec<PathBuf>> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(open.flatten().map(|entry| fs::read_link(entry.path()).unwrap_or_default()).collect())
}

fn anonymous(open: &[PathBuf]) -> usize {
    let image = |path: &&PathBuf| path.starts_with("/memfd:") || path.extension().is_some_and(|e| e == "cwasm");
    open.iter().filter(|path| !image(path) && !path.to_string_lossy().contains("memfd:")).count()
}

/// Adds what is in a folder, or in a folder in it.
fn entries(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path());
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            entries(&entry.path(), depth - 1, found);
        }
    }
}
