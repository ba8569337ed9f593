//! cgroup v2: a group with bounds for each jailed process, where the host delegates that to the daemon.
//!
//! The kernel lets a group either have processes or pass controllers on. So the daemon moves into a group of its own
//! below the one that it was started in, and the jailed processes get theirs beside it.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a group has to be able to bound.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What keeps a group from some of the processors, if that is delegated as well.
const PROCESSORS: &str = "cpuset";

/// The daemon's own group, below the one that is delegated. systemd makes it with `DelegateSubgroup=daemon`.
const DAEMON: &str = "daemon";

/// What the names of groups of jailed processes begin with; the daemon's process id and a number follow.
const PREFIX: &str = "palisade-";

/// Of a jailed process, beside the 100 that the daemon has: it answers, also when steps take all processors.
const CPU_WEIGHT: u32 = 50;

/// Processes and threads in one group.
const TASKS_MAX: u32 = 4096;

/// Where groups are made.
pub struct Groups {
    /// The delegated group.
    folder: PathBuf,
    daemon: u32,
    /// Whether a group can be kept from some of the processors.
    confines: bool,
    next: AtomicU64,
    /// Groups that could not be removed yet, because their process was still ending.
    left: Mutex<Vec<PathBuf>>,
}

/// The group of one process. It is removed when this is dropped, or, if its process still ends, before the next is
/// made.
pub struct Group {
    groups: Arc<Groups>,
    folder: PathBuf,
}

impl Groups {
    /// Takes the group that this process was started in, or says why it cannot.
    pub fn open() -> Result<Arc<Self>, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        let folder = own_group(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
            .ok_or("no cgroup v2 is mounted that has this process")?;
        Ok(Arc::new(Self::take(&folder, process::id())?))
    }

    /// Takes `own`, which the process `daemon` is in.
    fn take(own: &Path, daemon: u32) -> Result<Self, String> {
        let in_place = own.file_name().is_some_and(|name| name == DAEMON);
        let folder = if in_place { own.parent().unwrap_or(own) } else { own };
        let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        let is_offered = |one: &str| offered.split_whitespace().any(|offered| offered == one);
        let missing: Vec<_> = CONTROLLERS.into_iter().filter(|one| !is_offered(one)).collect();
        if !missing.is_empty() {
            return Err(format!("{} of cgroup v2 not delegated to {}", missing.join(", "), folder.display()));
        }
        if !in_place {
            move_in(folder, daemon).map_err(|e| format!("{} is not delegated: {e}", folder.display()))?;
        }
        let confines = is_offered(PROCESSORS).then_some(PROCESSORS);
        let all = CONTROLLERS.into_iter().chain(confines).map(|one| format!("+{one}")).collect::<Vec<_>>().join(" ");
        if let Err(error) = fs::write(folder.join("cgroup.subtree_control"), all) {
            if !in_place {
                // As it was.
                let _ = fs::write(folder.join("cgroup.procs"), daemon.to_string());
                let _ = fs::remove_dir(folder.join(DAEMON));
            }
            return Err(format!("{} cannot pass controllers on: {error}", folder.display()));
        }
        let (folder, confines) = (folder.into(), confines.is_some());
        let groups = Self { folder, daemon, confines, next: AtomicU64::new(1), left: Mutex::default() };
        groups.sweep();
        Ok(groups)
    }

    /// Makes a group that bounds memory, tasks and the share of processors.
    pub fn make(self: &Arc<Self>, memory_bytes: u64) -> io::Result<Group> {
        self.retry();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(format!("{PREFIX}{}-{number}", self.daemon));
        fs::create_dir(&folder)?;
        let group = Group { groups: self.clone(), folder };
        group.bound("memory.max", memory_bytes)?;
        group.bound("pids.max", TASKS_MAX.into())?;
        group.comes_as_others()?;
        // A process that is out of memory must not go on elsewhere; a kernel without swap has no such file.
        let _ = fs::write(group.folder.join("memory.swap.max"), "0");
        Ok(group)
    }

    /// Removes the groups of daemons that are no more, and kills what they left.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let Some(Ok(daemon)) = rest.split('-').next().map(str::parse::<u32>) else { continue };
            if daemon == self.daemon || !Path::new(&format!("/proc/{daemon}")).exists() {
                let _ = fs::write(entry.path().join("cgroup.kill"), "1"); // empty as a rule
                self.remove(entry.path());
            }
        }
    }

    fn remove(&self, folder: PathBuf) {
        if fs::remove_dir(&folder).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            self.left().push(folder);
        }
    }

    fn retry(&self) {
        let left = std::mem::take(&mut *self.left());
        left.into_iter().for_each(|folder| self.remove(folder));
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Moves a process in, before it does anything.
    pub fn add(&self, process: u32) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), process.to_string())
    }

    /// Returns the group's name: the end of its path.
    pub fn name(&self) -> String {
        self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Lets the group have what those beside it leave of the processors.
    pub fn comes_last(&self) -> io::Result<()> {
        fs::write(self.folder.join("cpu.idle"), "1")
    }

    /// Lets the group have its share of the processors.
    pub fn comes_as_others(&self) -> io::Result<()> {
        // The weight of a group that comes last is not its own, and cannot be changed. Linux before 5.15 has no such groups.
        let _ = fs::write(self.folder.join("cpu.idle"), "0");
        fs::write(self.folder.join("cpu.weight"), CPU_WEIGHT.to_string())
    }

    /// Returns whether it is delegated to say which processors the group has.
    pub fn confines(&self) -> bool {
        self.groups.confines
    }

    /// Lets the group have these processors only, as a list with commas.
    pub fn confine(&self, processors: &str) -> io::Result<()> {
        fs::write(self.folder.join("cpuset.cpus"), processors)
    }

    /// Sets a bound, and looks whether the kernel took it: it rounds down.
    fn bound(&self, file: &str, value: u64) -> io::Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string())?;
        let held = fs::read_to_string(&path)?;
        match held.trim().parse::<u64>() {
            Ok(held) if held <= value => Ok(()),
            _ => Err(io::Error::other(format!("{}: {}, not {value}", path.display(), held.trim()))),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.remove(std::mem::take(&mut self.folder));
    }
}

/// Makes the daemon's own group below `folder`, and moves it there. Nobody else may be in `folder`.
fn move_in(folder: &Path, daemon: u32) -> io::Result<()> {
    let others = fs::read_to_string(folder.join("cgroup.procs"))?;
    if others.lines().any(|one| one != daemon.to_string()) {
        return Err(io::Error::other("other processes are in it"));
    }
    match fs::create_dir(folder.join(DAEMON)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(folder.join(DAEMON).join("cgroup.procs"), daemon.to_string())
}

/// Returns the directory of the cgroup v2 that a process is in, given its `mountinfo` and `cgroup`.
fn own_group(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        // What is mounted may be a part of the whole, in a container.
        let below = Path::new("/").join(own).strip_prefix(root).ok()?.to_path_buf();
        file_system.starts_with("cgroup2 ").then(|| Path::new(place).join(below))
    })
}
