//! Against a tree of plain files: what would be written where.

#![allow(clippy::unwrap_used)]

use super::*;

/// A group as a host delegates it.
fn delegated(controllers: &str, processes: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
    fs::write(dir.path().join("cgroup.procs"), processes).unwrap();
    dir
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

#[test]
fn the_daemon_moves_aside_and_each_process_gets_a_group_with_bounds() {
    let dir = delegated("cpuset cpu io memory pids", "77\n");
    let groups = Arc::new(Groups::take(dir.path(), 77).unwrap());
    assert_eq!(read(dir.path(), "daemon/cgroup.procs"), "77");
    assert_eq!(read(dir.path(), "cgroup.subtree_control"), "+cpu +memory +pids +cpuset");

    let group = groups.make(1 << 30).unwrap();
    assert_eq!(group.name(), "palisade-77-1");
    group.add(99).unwrap();
    let folder = dir.path().join("palisade-77-1");
    for (file, value) in [
        ("memory.max", "1073741824"),
        ("memory.swap.max", "0"),
        ("pids.max", "4096"),
        ("cpu.weight", "50"),
        ("cgroup.procs", "99"),
    ] {
        assert_eq!(read(&folder, file), value, "{file}");
    }
    group.comes_last().unwrap();
    group.confine("0,1").unwrap();
    assert_eq!((read(&folder, "cpu.idle"), read(&folder, "cpuset.cpus")), ("1".into(), "0,1".into()));
    fs::write(folder.join("cpu.weight"), "100").unwrap(); // which the kernel makes of it
    group.comes_as_others().unwrap();
    assert_eq!((read(&folder, "cpu.idle"), read(&folder, "cpu.weight")), ("0".into(), "50".into()));
    assert_eq!(groups.make(1 << 30).unwrap().name(), "palisade-77-2");
}

#[test]
fn a_group_whose_process_still_ends_is_removed_before_the_next_is_made() {
    let dir = delegated("cpu memory pids", "77");
    let groups = Arc::new(Groups::take(dir.path(), 77).unwrap());
    // A directory with something in it cannot be removed, as a group with a process in it.
    drop(groups.make(1 << 30).unwrap());
    let folder = dir.path().join("palisade-77-1");
    assert!(folder.exists());
    for file in fs::read_dir(&folder).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let _next = groups.make(1 << 30).unwrap();
    assert!(!folder.exists());
}

#[test]
fn what_a_dead_daemon_left_is_removed_and_what_a_living_one_has_is_not() {
    let dir = delegated("cpu memory pids", "77");
    let living = std::process::id();
    // No process has this number: it is above the kernel's largest.
    for group in ["palisade-4194305-1".to_owned(), format!("palisade-{living}-1"), "somebody-else".to_owned()] {
        fs::create_dir(dir.path().join(group)).unwrap();
    }
    Groups::take(dir.path(), 77).unwrap();
    // Plain files are no control files: the order to kill is all that keeps the directory.
    assert_eq!(read(dir.path(), "palisade-4194305-1/cgroup.kill"), "1");
    assert!(!dir.path().join(format!("palisade-{living}-1/cgroup.kill")).exists());
    assert!(!dir.path().join("somebody-else/cgroup.kill").exists());
}

#[test]
fn a_daemon_that_was_started_in_its_own_group_stays_there() {
    let dir = delegated("cpu memory pids", "");
    let own = dir.path().join("daemon");
    fs::create_dir(&own).unwrap();
    let groups = Arc::new(Groups::take(&own, 77).unwrap());
    assert!(!own.join("cgroup.procs").exists());
    groups.make(1 << 20).unwrap();
    assert!(dir.path().join("palisade-77-1").exists());
}

#[test]
fn what_is_not_delegated_is_named_and_left_as_it_was() {
    let refused = |controllers, processes| {
        let dir = delegated(controllers, processes);
        let error = Groups::take(dir.path(), 77).err().unwrap();
        assert!(!dir.path().join("daemon").exists());
        assert!(!dir.path().join("cgroup.subtree_control").exists());
        error
    };
    assert!(refused("cpu hugetlb", "77").starts_with("memory, pids of cgroup v2 not delegated"));
    assert!(refused("cpu memory pids", "77\n78\n").ends_with("other processes are in it"));
}

#[test]
fn the_kernel_must_have_taken_a_bound() {
    let dir = delegated("cpu memory pids", "77");
    let groups = Arc::new(Groups::take(dir.path(), 77).unwrap());
    let group = groups.make(1 << 30).unwrap();
    // As a kernel that does not take what is written.
    fs::remove_file(group.folder.join("memory.max")).unwrap();
    std::os::unix::fs::symlink("/dev/null", group.folder.join("memory.max")).unwrap();
    assert!(group.bound("memory.max", 5).is_err());
}

#[test]
fn the_own_group_is_found_where_cgroup_v2_is_mounted() {
    let mounts = "24 22 0:22 / /sys rw - sysfs sysfs rw\n\
                  31 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let found = own_group(mounts, "0::/system.slice/palisade.service\n");
    assert_eq!(found.unwrap(), Path::new("/sys/fs/cgroup/system.slice/palisade.service"));
    let part = "31 24 0:28 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    assert_eq!(own_group(part, "4:pids:/x\n0::/docker/abc/inner\n").unwrap(), Path::new("/sys/fs/cgroup/inner"));
    assert_eq!(own_group("31 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "0::/\n"), None);
}
