#![allow(clippy::unwrap_used)]

use super::*;

fn files() -> Files {
    Files::new([0; 32], Datetime { seconds: 0, nanoseconds: 0 }, &Trees::default())
}

#[test]
fn the_listings_of_a_step_have_so_many_entries_together_and_give_them_back() {
    let (mut files, most) = (files(), FIXED.listed_entries);
    files.add_listing(most - 1).unwrap();
    files.add_listing(1).unwrap();
    assert_eq!(files.add_listing(1).unwrap_err().limit, "listed_entries");
    files.remove_listing(1);
    files.add_listing(1).unwrap();
    files.remove_listing(most - 1);
    assert!(files.add_listing(u64::MAX).is_err());
    files.add_listing(most - 1).unwrap();
}

#[test]
fn empty_listings_are_counted_too() {
    let mut files = files();
    for _ in 0..FIXED.directory_streams {
        files.check_listings().unwrap();
        files.add_listing(0).unwrap();
    }
    assert_eq!(files.check_listings().unwrap_err().limit, "directory_streams");
    files.remove_listing(0);
    files.check_listings().unwrap();
}
