use std::process::Command;

use crate::harness::{guest, palisade, root};

#[test]
fn a_new_step_compiles_passes_its_test_and_runs_at_the_first_try() {
    guest("probe"); // so that cargo has what the SDK needs
    let dir = tempfile::tempdir().unwrap();
    let created = palisade().args(["new", "step", "greet-people"]).current_dir(dir.path()).status().unwrap();
    assert!(created.success());
    let project = dir.path().join("greet-people");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into).join("new-project");
    let cargo = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--quiet")
            .env("CARGO_TARGET_DIR", &target)
            .current_dir(&project)
            .status()
            .unwrap();
        assert!(status.success(), "cargo {arguments:?}");
    };
    // The lock file spares cargo the choice of versions, and so the network.
    std::fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    cargo(&["test"]);
    cargo(&["build", "--target", "wasm32-wasip2"]);
    let output = palisade()
        .args(["run", "-q", "--input", r#"{"name":"Ada"}"#, "--data-dir", dir.path().join("data").to_str().unwrap()])
        .arg(target.join("wasm32-wasip2/debug/greet_people.wasm"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"greeting\":\"Hello, Ada!\"}\n");
}

#[test]
fn a_new_tool_compiles_passes_its_test_and_is_registered_at_the_first_try() {
    guest("probe"); // so that cargo has what the SDK needs
    let dir = tempfile::tempdir().unwrap();
    let created = palisade().args(["new", "tool", "look-up"]).current_dir(dir.path()).status().unwrap();
    assert!(created.success());
    let project = dir.path().join("look-up");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into).join("new-project");
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).arg("--quiet").env("CARGO_TARGET_DIR", &target).current_dir(&project);
        assert!(cargo.status().unwrap().success(), "cargo {arguments:?}");
    };
    std::fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    cargo(&["test"]);
    cargo(&["build", "--target", "wasm32-wasip2"]);
    let registered = palisade()
        .args(["tool", "register", "--name", "look.up", "--version", "1", "--effect", "read", "--data-dir"])
        .args([dir.path().join("data"), target.join("wasm32-wasip2/debug/look_up.wasm")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&registered.stdout);
    assert!(registered.status.success() && said.contains("look.up@1"), "{said}{registered:?}");
}

#[test]
fn a_new_step_has_a_proper_name_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let new = |name: &str| palisade().args(["new", "step", name]).current_dir(dir.path()).output().unwrap();
    for name in ["../x", "A", "", "a b", "1st"] {
        assert_eq!(new(name).status.code(), Some(2), "{name}");
    }
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    assert!(String::from_utf8_lossy(&new("mine").stderr).contains("exists already"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
