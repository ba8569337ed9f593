//! What the kernel says of the pages.

use std::fs;

use super::Secret;
use crate::credentials::fetch;

/// The kernel's flags of the mapping that an address is in: `dd` is not dumped, `lo` is locked.
fn flags(address: usize) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut here = false;
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range
            .and_then(|(from, to)| Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?));
        if let Some(range) = range {
            here = range.contains(&address);
        }
        if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| here) {
            return flags.split_whitespace().map(String::from).collect();
        }
    }
    Vec::new()
}

fn is_guarded(address: *const u8) -> bool {
    let flags = flags(address as usize);
    flags.iter().any(|flag| flag == "dd") && flags.iter().any(|flag| flag == "lo")
}

#[test]
fn its_pages_are_locked_and_not_dumped() {
    let secret = Secret::of(&[b"a ", b"secret"]).unwrap();
    assert_eq!(secret.expose(), b"a secret");
    assert!(is_guarded(secret.expose().as_ptr()));
    let heap = b"a secret".to_vec();
    assert!(!is_guarded(heap.as_ptr()));
}

#[test]
fn a_header_and_a_body_are_in_its_pages() {
    let value = fetch::sensitive(Secret::of(&[b"Bearer x"]).unwrap()).unwrap();
    assert!(value.is_sensitive());
    assert!(is_guarded(value.as_bytes().as_ptr()));
    assert!(is_guarded(value.clone().as_bytes().as_ptr()));
    assert!(is_guarded(fetch::body(&[b"x"]).unwrap().as_ptr()));
    assert!(fetch::sensitive(Secret::of(&[b"a\nb"]).unwrap()).is_none());
}

#[test]
fn it_may_have_any_length() {
    for len in [0, 1, 4095, 4096, 4097, 100_000] {
        let mut secret = Secret::blank(len).unwrap();
        assert_eq!(secret.expose(), vec![0; len]);
        secret.expose_mut().fill(7);
        secret.truncate(len + 1);
        assert_eq!(secret.expose().len(), len);
        secret.truncate(len / 2);
        assert_eq!(secret.expose(), vec![7; len / 2]);
    }
}

#[test]
fn only_the_same_bytes_are_the_same() {
    let secret = |bytes: &[u8]| Secret::of(&[bytes]).unwrap();
    assert!(secret(b"abc").same(&secret(b"abc")));
    assert!(!secret(b"abc").same(&secret(b"abd")));
    assert!(!secret(b"abc").same(&secret(b"abcd")));
    assert!(secret(b"").same(&secret(b"")));
}
