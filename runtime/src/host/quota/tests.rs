#![allow(clippy::unwrap_used)]

use super::*;

const ID: FileId = (1, 2);

fn tree() -> Tree {
    Tree::new(Quota { bytes: 100, entries: 2 }, false)
}

#[test]
fn only_what_reaches_beyond_the_end_is_charged() {
    let tree = tree();
    let file = tree.open(ID, 0);
    file.write(0, 60).unwrap();
    file.write(0, 60).unwrap();
    file.append(40).unwrap();
    assert_eq!(file.append(1), Err(Full));
    assert_eq!(file.write(u64::MAX, 2), Err(Full));
    assert_eq!(tree.growth(), (100, 0));
}

#[test]
fn a_deleted_file_gives_back_only_when_its_last_handle_is_gone() {
    let tree = tree();
    let (file, second) = (tree.open(ID, 0), tree.open(ID, 0));
    file.append(80).unwrap();
    tree.unlink(ID, 80);
    drop(file);
    assert_eq!(tree.growth().0, 80);
    drop(second);
    assert_eq!(tree.growth().0, 0);
}

#[test]
fn truncation_gives_back() {
    let tree = tree();
    let file = tree.open(ID, 30);
    file.set_bytes(10).unwrap();
    assert_eq!(tree.growth().0, -20);
    tree.truncated(ID, 999);
    assert_eq!(tree.growth().0, -30);
    tree.truncated((3, 4), 5);
    assert_eq!(tree.growth().0, -35);
}

#[test]
fn a_shared_tree_gives_no_credit_for_what_others_added() {
    let tree = Tree::new(Quota { bytes: 100, entries: 2 }, true);
    tree.truncated(ID, 1_000);
    tree.unlink(ID, 1_000);
    tree.remove_entry();
    assert_eq!(tree.growth(), (0, 0));
    let file = tree.open(ID, 0);
    file.append(100).unwrap();
    assert_eq!(file.append(1), Err(Full));
}

#[test]
fn entries_are_counted() {
    let tree = tree();
    tree.add_entry().unwrap().keep();
    let failed = tree.add_entry().unwrap();
    assert!(tree.add_entry().is_err());
    drop(failed);
    tree.add_entry().unwrap().keep();
    assert_eq!(tree.growth().1, 2);
    tree.remove_entry();
    assert_eq!(tree.growth().1, 1);
}
