#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::Paths;
use crate::egress::PathPattern;

fn patterns(paths: &[&str]) -> Vec<String> {
    let mut known = Paths::default();
    paths.iter().for_each(|path| known.add(path));
    known.patterns(64).0
}

#[test]
fn what_looks_like_an_identifier_stands_for_any() {
    for id in ["7", "1042", "0c0ffee1", "DEADBEEF01", "3f9c21aa-0000-4000-8000-1234567890ab", "a*b"] {
        assert_eq!(patterns(&[&format!("/v1/issues/{id}/comments")]), ["/v1/issues/*/comments"], "{id}");
    }
    for word in ["facade", "deadbeef", "v1", "issue-7", "3f9c"] {
        assert_eq!(patterns(&[&format!("/v1/{word}")]), [format!("/v1/{word}")]);
    }
}

#[test]
fn a_segment_stands_for_any_where_three_values_are_all_that_differs() {
    assert_eq!(patterns(&["/repos/a/x", "/repos/b/x"]), ["/repos/a/x", "/repos/b/x"]);
    assert_eq!(patterns(&["/repos/a/x", "/repos/b/x", "/repos/c/x", "/repos/a/x"]), ["/repos/*/x"]);
    // Where something else differs, too, nothing is known of the rest.
    assert_eq!(patterns(&["/repos/a/x", "/repos/b/y", "/repos/c/z"]).len(), 3);
    // The same place in two depths.
    assert_eq!(
        patterns(&["/o/a/r/x", "/o/a/r/y", "/o/a/r/z", "/o/b/r/x", "/o/b/r/y", "/o/b/r/z"]),
        ["/o/a/r/*", "/o/b/r/*"]
    );
}

#[test]
fn the_first_segment_is_always_named_unless_it_is_an_identifier() {
    assert_eq!(patterns(&["/a", "/b", "/c", "/d"]).len(), 4);
    assert_eq!(patterns(&["/1", "/2"]), ["/*"]);
}

#[test]
fn the_ends_of_paths_stay_as_they_are() {
    assert_eq!(patterns(&["/a/", "/a/7/", "/a/7"]), ["/a/", "/a/*", "/a/*/"]);
    assert_eq!(patterns(&["/"]), ["/"]);
}

#[test]
fn a_path_that_was_cut_stands_for_all_below_what_is_known_of_it() {
    assert_eq!(patterns(&["/files/some/lo…"]), ["/files/some/**"]);
    let mut unknown = Paths::default();
    unknown.add("/loooong…");
    assert_eq!(unknown.patterns(64), (Vec::new(), 1));
}

#[test]
fn the_least_used_are_left_out_and_counted() {
    let mut paths = Paths::default();
    for (path, uses) in [("/often/x", 5), ("/seldom/y", 1), ("/sometimes/z", 2)] {
        (0..uses).for_each(|_| paths.add(path));
    }
    assert_eq!(paths.patterns(2), (vec!["/often/x".into(), "/sometimes/z".into()], 1));
}

#[test]
fn many_different_paths_do_not_take_memory_without_end() {
    let mut paths = Paths::default();
    for one in 0..40_u32 {
        (0..40_u32).for_each(|other| paths.add(&format!("/top/s{one}x/t{other}x")));
    }
    let (patterns, left_out) = paths.patterns(64);
    assert!(patterns.len() + left_out as usize >= 1 && patterns.len() <= 64);
}

proptest! {
    /// No path that was seen is outside of what is drafted, unless it is said to be left out.
    #[test]
    fn every_path_is_within_a_pattern(paths in proptest::collection::vec("(/(a|b|c|d|7|8|deadbeef1|x-y|s*t)){1,4}/?", 1..40)) {
        let mut known = Paths::default();
        paths.iter().for_each(|path| known.add(path));
        let (patterns, left_out) = known.patterns(64);
        let patterns: Vec<PathPattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        for path in &paths {
            prop_assert!(left_out > 0 || patterns.iter().any(|pattern| pattern.admits(path)), "{path}: {patterns:?}");
        }
    }
}
