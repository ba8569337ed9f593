//! What is kept, and for how many there is room.

use super::*;

#[test]
fn a_restart_lifts_nothing_and_a_damaged_file_does_not_open() {
    let dir = TempDir::new().unwrap();
    let open = || holds(&dir);
    let (first, who) = (open().unwrap(), who());
    let kill =
        Hold { until_ms: Some(5_000), records: vec![3, 7], ..hold(1, Action::Throttle { per_minute: 5 }, "node") };
    first.impose(kill.clone()).unwrap();
    first.impose(hold(2, Action::Kill, "agents/desk@1.2")).unwrap();
    first.keep().unwrap();
    let again = open().unwrap();
    assert_eq!((again.all(), again.get(&kill.id).as_deref()), (first.all(), Some(&kill)));
    assert!(again.step(&who.subject(), 2_000).is_some());
    again.lift(&hold(2, Action::Kill, "node").id).unwrap();
    assert!(open().unwrap().get("holds/00000000000000000000000000000002").is_none());
    let file = dir.path().join("holds.json");
    let good = fs::read_to_string(&file).unwrap();
    for bad in [
        "",
        "{}",
        &good[..good.len() - 1],
        &good.replace("node", "everything"),
        &good.replace("\"records\"", "\"recordings\""),
        &good.replace("it sends mail", ""),
    ] {
        fs::write(&file, bad).unwrap();
        let message = open().err().unwrap().to_string();
        assert!(message.contains("holds.json` does not decode"), "{message}");
    }
}

#[test]
fn what_cannot_be_kept_holds_all_the_same_and_what_cannot_be_lifted_durably_is_not_lifted() {
    let dir = TempDir::new().unwrap();
    let (holds, who, spool) = (holds(&dir).unwrap(), who(), dir.path().join("spool"));
    fs::remove_dir(&spool).unwrap();
    let kill = hold(1, Action::Kill, "node");
    holds.impose(kill.clone()).unwrap();
    assert!(holds.keep().is_err());
    assert!(holds.step(&who.subject(), 2_000).is_some());
    assert!(holds.lift(&kill.id).is_err());
    assert!(holds.step(&who.subject(), 2_000).is_some());
    fs::create_dir(&spool).unwrap();
    assert_eq!(*holds.impose(Hold { since_ms: 9_000, ..kill.clone() }).unwrap(), kill);
    holds.keep().unwrap();
    assert_eq!(super::holds(&dir).unwrap().all().len(), 1);
}

#[test]
fn there_is_room_for_an_operator_however_many_agents_are_contained() {
    let dir = TempDir::new().unwrap();
    let full = |result: Result<_, ImposeError>| matches!(result, Err(ImposeError::Full(_)));
    let many: Vec<Hold> = (0..CONTAINMENT_HOLDS_MAX as u32)
        .map(|id| Hold { by: "containment/loops".into(), ..hold(id, Action::Quarantine, "agents/x") })
        .collect();
    fs::write(dir.path().join("holds.json"), serde_json::to_vec(&many).unwrap()).unwrap();
    let holds = holds(&dir).unwrap();
    let more = |id| Hold { by: "containment/loops".into(), ..hold(id, Action::Quarantine, "agents/y") };
    assert!(full(holds.impose(more(5_000))));
    for id in CONTAINMENT_HOLDS_MAX..HOLDS_MAX {
        holds.impose(hold(id as u32, Action::Kill, "agents/z")).unwrap();
    }
    assert!(full(holds.impose(hold(6_000, Action::Kill, "node"))));
    assert!(holds.impose(hold(0, Action::Kill, "node")).is_ok(), "the same once more needs no room");
}

#[test]
fn the_agents_of_one_tenant_leave_as_many_holds_to_others_as_they_have() {
    let dir = TempDir::new().unwrap();
    let holds = holds(&dir).unwrap();
    let contained = |id, tenant: &str| Hold {
        by: "containment/loops".into(),
        ..hold(id, Action::Quarantine, &format!("tenants/{tenant}/agents/x"))
    };
    let greedy: u32 = (0..).take_while(|id| holds.impose(contained(*id, "greedy")).is_ok()).count() as u32;
    assert_eq!(greedy, CONTAINMENT_HOLDS_MAX as u32 / 2);
    assert!(holds.impose(contained(5_000, "modest")).is_ok());
    assert!(holds.impose(contained(5_001, "greedy")).is_err());
}

#[test]
fn a_hold_of_a_rule_is_prolonged_and_never_shortened() {
    let dir = TempDir::new().unwrap();
    let holds = holds(&dir).unwrap();
    let until = |until_ms, record| Hold {
        by: "containment/loops".into(),
        until_ms,
        since_ms: record,
        records: vec![record],
        ..hold(1, Action::Quarantine, "tenants/acme/agents/x")
    };
    for (asked, record, expected, told) in [
        (Some(5_000), 1, Some(5_000), 1),
        (Some(9_000), 2, Some(9_000), 2),
        (Some(7_000), 3, Some(9_000), 2),
        (None, 4, None, 4),
        (Some(9_999), 5, None, 4),
    ] {
        let imposed = holds.impose(until(asked, record)).unwrap();
        assert_eq!((imposed.until_ms, imposed.records.as_slice(), imposed.since_ms), (expected, &[told][..], 1));
        assert_eq!(*holds.all(), [imposed]);
    }
    let operators = |until_ms| Hold { until_ms, ..hold(2, Action::Kill, "node") };
    holds.impose(operators(Some(5_000))).unwrap();
    assert_eq!(holds.impose(operators(None)).unwrap().until_ms, Some(5_000), "who asks twice has what was asked first");
}

#[test]
fn a_kill_is_in_force_while_an_earlier_change_waits_for_the_disk() {
    let dir = TempDir::new().unwrap();
    let (holds, who) = (holds(&dir).unwrap(), who());
    holds.impose(hold(1, Action::Cordon, "jobs/evening")).unwrap();
    let writing = holds.kept();
    std::thread::scope(|scope| {
        let lifting = scope.spawn(|| holds.lift(&hold(1, Action::Cordon, "node").id));
        holds.impose(hold(2, Action::Kill, "node")).unwrap();
        assert!(holds.step(&who.subject(), 2_000).is_some());
        drop(writing);
        assert!(lifting.join().unwrap().unwrap().is_some());
    });
    assert_eq!(holds.all().len(), 1, "what is imposed meanwhile stays");
    holds.keep().unwrap();
    assert_eq!(super::holds(&dir).unwrap().all(), holds.all());
}
