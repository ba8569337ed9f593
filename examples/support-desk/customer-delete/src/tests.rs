use super::*;

const CUSTOMERS: &str = "number,name\n104,\"Sand, Henrik\"\n1042,Marta\n1043,Ruth\n";

fn ask(customer: u32) -> (Result<Output, Error>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("customers.csv");
    fs::write(&file, CUSTOMERS).unwrap();
    let said = delete(&file, Arguments { customer });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    (said, fs::read_to_string(&file).unwrap())
}

#[test]
fn it_deletes_one_customer() {
    let (said, left) = ask(1042);
    assert_eq!(said, Ok(Output { left: 2 }));
    assert_eq!(left, "number,name\n104,\"Sand, Henrik\"\n1043,Ruth\n");
}

#[test]
fn it_does_not_delete_who_is_not_there() {
    let (said, left) = ask(10);
    assert_eq!(said.unwrap_err().code, "CUSTOMER_NOT_FOUND");
    assert_eq!(left, CUSTOMERS);
}
