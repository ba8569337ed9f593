use tempfile::TempDir;

use super::*;

const BEFORE: &str = "{\"by\":\"Ingrid\",\"note\":\"called back\",\"ticket\":\"B-1\"}\n";

fn desk() -> TempDir {
    let desk = tempfile::tempdir().unwrap();
    for folder in ["tickets", "notes"] {
        fs::create_dir(desk.path().join(folder)).unwrap();
    }
    fs::write(desk.path().join("tickets/billing.json"), r#"[{"id":"B-1"},{"id":"B-2"}]"#).unwrap();
    fs::write(desk.path().join("notes/billing.jsonl"), BEFORE).unwrap();
    desk
}

fn ask(desk: &TempDir, queue: &str, ticket: &str) -> Result<Output, Error> {
    append(desk.path(), Arguments { queue: queue.into(), ticket: ticket.into(), note: "two\nlines".into() })
}

#[test]
fn what_was_there_stays() {
    let desk = desk();
    let said = ask(&desk, "billing", "B-2").unwrap();
    let notes = fs::read_to_string(desk.path().join("notes/billing.jsonl")).unwrap();
    assert_eq!(said.bytes, notes.len() as u64);
    let added = notes.strip_prefix(BEFORE).unwrap();
    assert_eq!(added.lines().count(), 1);
    let expected = Note { by: AUTHOR.into(), note: "two\nlines".into(), ticket: "B-2".into() };
    assert_eq!(serde_json::from_str::<Note>(added).unwrap(), expected);
}

#[test]
fn the_first_note_of_a_queue_makes_its_file() {
    let desk = desk();
    fs::remove_file(desk.path().join("notes/billing.jsonl")).unwrap();
    ask(&desk, "billing", "B-1").unwrap();
    assert!(desk.path().join("notes/billing.jsonl").exists());
}

#[test]
fn a_ticket_that_is_not_there_gets_no_note() {
    let desk = desk();
    assert_eq!(ask(&desk, "billing", "P-1").unwrap_err().code, "TICKET_NOT_FOUND");
    assert_eq!(ask(&desk, "sales", "B-1").unwrap_err().code, "QUEUE_NOT_FOUND");
    assert_eq!(fs::read_to_string(desk.path().join("notes/billing.jsonl")).unwrap(), BEFORE);
    assert!(!desk.path().join("notes/sales.jsonl").exists());
}
