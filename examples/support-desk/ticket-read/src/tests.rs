use super::*;

fn ask(queue: &str, ticket: Option<&str>) -> Result<Output, Error> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tickets");
    read(&data, Arguments { queue: queue.into(), ticket: ticket.map(Into::into) })
}

#[test]
fn it_lists_a_queue_without_texts() {
    let tickets = ask("billing", None).unwrap().tickets;
    assert_eq!(tickets.len(), 9);
    assert!(tickets.iter().all(|ticket| ticket.id.starts_with("B-") && ticket.text.is_none()));
    assert_eq!(tickets.iter().filter(|ticket| ticket.state == State::Closed).count(), 1);
}

#[test]
fn it_reads_one_ticket() {
    let tickets = ask("billing", Some("B-2004")).unwrap().tickets;
    assert_eq!(tickets.len(), 1);
    assert_eq!(tickets[0].subject, "Card expired");
    assert!(tickets[0].text.as_deref().unwrap().contains("expired in February"));
}

#[test]
fn it_finds_a_ticket_in_its_own_queue_only() {
    let paths = ["P-4003", "../privacy", "../privacy.json", ""];
    for ticket in paths {
        assert_eq!(ask("billing", Some(ticket)).unwrap_err().code, "TICKET_NOT_FOUND", "{ticket}");
    }
    assert_eq!(ask("sales", None).unwrap_err().code, "QUEUE_NOT_FOUND");
}

#[test]
fn every_queue_can_be_read() {
    let count = |queue| ask(queue, None).unwrap().tickets.len();
    assert_eq!(["billing", "access", "privacy"].map(count), [9, 8, 7]);
}
