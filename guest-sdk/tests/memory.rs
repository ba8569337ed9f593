//! Memory outside the sandbox: what a step that remembers can be tested with.

use std::{thread, time::Duration};

use palisade_guest::{
    CallError, Error,
    memory::{self, PutOptions, space},
};

#[test]
fn what_was_put_is_there_with_a_version_that_grows() {
    let notes = space("notes");
    assert_eq!(notes.get::<u8>("n"), Ok(None));
    assert_eq!(notes.put("n", &7), Ok(1));
    assert_eq!(notes.put("n", &8), Ok(2));
    let item = notes.get::<u8>("n").unwrap().unwrap();
    assert_eq!((item.value, item.version, item.expires_at), (8, 2, None));
    assert_eq!(notes.delete("n"), Ok(true));
    assert_eq!(notes.delete("n"), Ok(false));
    assert_eq!(notes.put("n", &9), Ok(3), "also across its deletion");
    assert_eq!(space("other").get::<u8>("n"), Ok(None));
}

#[test]
fn a_version_can_be_asked_for() {
    let notes = space("notes");
    let if_version = |version| PutOptions { if_version: Some(version), ..PutOptions::default() };
    assert_eq!(notes.put_with("n", &1, if_version(0)), Ok(1));
    let conflict = notes.put_with("n", &2, if_version(0)).unwrap_err();
    assert_eq!(conflict.code(), "MEMORY_CONFLICT");
    assert!(matches!(conflict, CallError::Failed(_)));
    assert_eq!(notes.put_with("n", &2, if_version(1)), Ok(2));
    assert_eq!(notes.delete_if("n", 1).unwrap_err().code(), "MEMORY_CONFLICT");
    assert_eq!(notes.delete_if("n", 2), Ok(true));
}

#[test]
fn a_value_is_gone_when_its_time_is_over() {
    let notes = space("notes");
    let options = PutOptions { ttl: Some(Duration::from_millis(1)), ..PutOptions::default() };
    notes.put_with("brief", "x", options).unwrap();
    notes.put_with("long", "x", PutOptions { ttl: Some(Duration::MAX), ..options }).unwrap();
    thread::sleep(Duration::from_millis(5));
    assert_eq!(notes.get::<String>("brief"), Ok(None));
    assert_eq!(notes.list("").count(), 1);
}

#[test]
fn bytes_need_not_be_json() {
    let notes = space("notes");
    notes.put_bytes("raw", b"\xff", PutOptions::default()).unwrap();
    assert_eq!(notes.get_bytes("raw").unwrap().unwrap().value, b"\xff");
    let wrong = notes.get::<String>("raw").unwrap_err();
    assert_eq!(wrong.code(), "VALUE_INVALID");
    assert!(wrong.to_string().contains("`raw`"), "{wrong}");
}

#[test]
fn a_list_turns_its_pages_by_itself() {
    let notes = space("notes");
    for n in 0..2_500 {
        notes.put(&format!("n/{n:04}"), &n).unwrap();
    }
    notes.put("other", &0).unwrap();
    let keys: Vec<_> = notes.list("n/").map(|listed| listed.unwrap().key).collect();
    assert_eq!(keys.len(), 2_500);
    assert!(keys.is_sorted() && keys[2_499] == "n/2499");
    assert_eq!(notes.list("x").count(), 0);
    let page = notes.list_page("n/", Some("n/0001"), 2).unwrap();
    assert_eq!(page.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["n/0002", "n/0003"]);
}

#[test]
fn keys_and_pages_are_bounded() {
    assert_eq!(space("notes").list_page("", None, 0).unwrap_err().code(), "KEY_INVALID");
    assert_eq!(space("notes").put("", &1).unwrap_err().code(), "KEY_INVALID");
}

#[test]
fn each_thread_has_its_own() {
    memory::space("notes").put("n", &1).unwrap();
    let seen = thread::spawn(|| memory::space("notes").get::<u8>("n").unwrap().is_some()).join();
    assert!(!seen.unwrap());
}

#[test]
fn a_refusal_keeps_its_code_on_its_way_out_of_a_step() {
    fn step() -> Result<u64, Error> {
        Ok(space("notes").put("", &1)?)
    }
    assert_eq!(step().unwrap_err().code, "KEY_INVALID");
    // Its text is the same, as a step's failure and on its own.
    let error = space("notes").put("", &1).unwrap_err();
    let boxed: Box<dyn std::error::Error> = Box::new(error.clone());
    assert_eq!(boxed.to_string(), Error::from(error).message);
}
