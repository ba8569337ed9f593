#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use proptest::prelude::*;

use super::{
    DataDir, Revocations, TenantDir, Workspaces,
    workspace_files::{self, Upload},
};
use crate::step::{Name, Quota};

fn tenant(data_dir: &DataDir) -> TenantDir {
    data_dir.tenant(&"t".parse().unwrap()).unwrap()
}

fn workspaces() -> (tempfile::TempDir, DataDir, Workspaces) {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(&dir.path().join("data")).unwrap();
    let workspaces = Workspaces::open(&tenant(&data_dir), 10).unwrap();
    workspaces.create("w".parse().unwrap(), Quota { bytes: 1_000, entries: 100 }).unwrap();
    (dir, data_dir, workspaces)
}

#[test]
fn a_link_in_a_workspaces_place_leads_nowhere() {
    let (dir, data_dir, workspaces) = workspaces();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "canary").unwrap();
    // As a worker could do it whose guest broke the first wall.
    fs::remove_dir(tenant(&data_dir).workspaces.join("w")).unwrap();
    symlink(&outside, tenant(&data_dir).workspaces.join("w")).unwrap();
    symlink(&outside, tenant(&data_dir).workspaces.join("left-over")).unwrap();

    let name = "w".parse().unwrap();
    assert!(workspaces.dir(&name).is_err());
    let lease = workspaces.lease(&name).unwrap();
    assert!(lease.left().is_err());
    drop(lease);
    drop((workspaces, data_dir));
    let data_dir = DataDir::open(&dir.path().join("data")).unwrap();
    let workspaces = Workspaces::open(&tenant(&data_dir), 10).unwrap();
    workspaces.delete("workspaces/w").unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "canary");
    assert_eq!(fs::read_dir(tenant(&data_dir).workspaces).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever path a caller names, all that changes is below its workspace.
    #[test]
    fn no_upload_leaves_its_workspace(path in "([a-c.]{0,3}/?){0,6}", link in "[a-c]") {
        let (dir, data_dir, workspaces) = workspaces();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, tenant(&data_dir).workspaces.join("w").join(link)).unwrap();
        let before = tree(&outside);
        let lease = workspaces.lease(&"w".parse().unwrap()).unwrap();
        if let Ok(mut upload) = Upload::begin(lease, &path, workspaces.spool()) {
            upload.write(b"data").unwrap();
            if upload.finish().is_ok() {
                let root = workspaces.dir(&"w".parse().unwrap()).unwrap();
                prop_assert!(workspace_files::open(&root, &path).is_ok());
            }
        }
        prop_assert_eq!(tree(&outside), before);
        prop_assert_eq!(fs::read_dir(tenant(&data_dir).workspaces).unwrap().count(), 1);
        prop_assert_eq!(fs::read_dir(data_dir.spool()).unwrap().count(), 0);
    }
}

fn tree(path: &std::path::Path) -> BTreeMap<String, u64> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            entry.map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().unwrap().len())).unwrap()
        })
        .collect()
}

#[test]
fn what_is_revoked_stays_revoked_and_a_damaged_list_is_not_taken_for_an_empty_one() {
    let (_dir, data_dir, _) = workspaces();
    let [mine, other]: [Name; 2] = ["mine", "other"].map(|name| name.parse().unwrap());
    let mut revocations = Revocations::open(&data_dir).unwrap();
    assert!(revocations.names().is_empty());
    for name in [&mine, &mine, &other] {
        revocations.set(name, true).unwrap();
    }
    revocations.set(&other, false).unwrap();
    assert_eq!(Revocations::open(&data_dir).unwrap().names().iter().collect::<Vec<_>>(), [&mine]);
    fs::write(data_dir.revocations(), "[\"mine\"").unwrap();
    assert!(Revocations::open(&data_dir).err().unwrap().to_string().contains("does not decode"));
}
