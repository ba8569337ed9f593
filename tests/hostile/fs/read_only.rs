//! What is read-only stays as it is: links and renames between mounts, truncation that nobody asked the right for.

use serde_json::{Value, json};

use super::{
    cases::{control, matrix},
    table::{Row, hold},
    world::World,
};
use crate::hostile::settings::{GUESTS, Setting, WALLED};

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_stays_as_it_is_whatever_is_linked_moved_or_cut() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        let rows = below_the_mount(setting);
        hold(&mut world, "FS-06", rows).await;
        // Last: between two writable mounts native code may move what the others look for.
        let rows = between_mounts();
        hold(&mut world, "FS-05", rows).await;
        world.must_be_clean();
    }
}

/// FS-05: names of files, moved and linked in each direction, and written to where they arrived.
fn between_mounts() -> Vec<Row> {
    let mounts = ["/ro", "/rw", "/other"];
    let names = ["file", "./file", "dir/../file", "dir/file", "file/", "link", "link/", "dir", "dir/", "dir/deep"];
    let mut rows = vec![control("a file inside")];
    let case = json!({ "act": "link", "at": "/rw", "path": "dir/file", "to": ["/rw", "linked-inside"] });
    rows.push(Row::control("a link within a writable mount", case, ""));
    let case = json!({ "act": "rename", "at": "/rw", "path": "linked-inside", "to": ["/rw", "moved-inside"] });
    rows.push(Row::control("a rename within a writable mount", case, ""));
    let mut number = 0;
    for from in mounts {
        for to in mounts.into_iter().filter(|to| *to != from) {
            for name in names {
                for (act, follow) in [("link", false), ("link", true), ("rename", false)] {
                    number += 1;
                    let new = format!("arrived-{number}");
                    let what = format!("{act}{} {name} from {from} to {to}", if follow { " following" } else { "" });
                    let case = json!({ "act": act, "at": from, "path": name, "to": [to, new], "follow": follow });
                    // Between two writable mounts native code may move what it likes.
                    rows.push(Row::refused(what.clone(), case));
                    for write in ["open-write", "truncate", "append"] {
                        let case = json!({ "act": write, "at": to, "path": new });
                        rows.push(Row::refused(format!("{write} what came of {what}"), case));
                    }
                }
            }
        }
    }
    rows
}

/// FS-06: every act on everything in it.
fn below_the_mount(setting: Setting) -> Vec<Row> {
    let mut rows = vec![control("a file inside")];
    for (number, path) in [
        "file", "file/", "./file", "link", "link/", "dir", "dir/", "dir/file", "dir/deep", "new", "new/", ".",
        "dir/new",
    ]
    .iter()
    .enumerate()
    {
        for (act, case) in matrix("/ro", path, "file", 20_000 + number) {
            let looks = ["open-read", "open-directory", "stat", "metadata-hash", "read-link", "advise", "sync"];
            // A descriptor with the right to change a directory that nothing can be changed with.
            let harmless = looks.iter().any(|it| act.starts_with(it)) || act.starts_with("open-mutable");
            let name = format!("{act} {path}");
            // An open for writing gives native code what it could have read.
            let row =
                if harmless || !setting.has_guests() { Row::either(name, case) } else { Row::refused(name, case) };
            rows.push(row);
        }
    }
    let read = |path: &str| json!({ "act": "open-read", "at": "/ro", "path": path });
    rows.push(Row::control("it is still there to be read", read("dir/file"), "inside"));
    rows
}

/// The same directory twice, once to be read only: what tells them apart is the WASI wall alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_mounted_twice_is_read_only_where_it_says_so() {
    for setting in GUESTS {
        let world = World::new(setting).await;
        let mut request = world.request(Value::Null);
        let used = palisade_proto::v1::MountUse { mount: "rw".into(), path: "/view".into(), read_only: true };
        request.mounts.push(used);
        let mut cases = Vec::new();
        for (number, path) in ["file", "dir/file", "link", "dir", "new"].iter().enumerate() {
            cases.extend(matrix("/view", path, "file", number));
        }
        // What reaches the file through the writable mount would prove nothing.
        let through_view = |case: &Value| case["at"] == "/view" && case["act"] != "rename" && case["act"] != "link";
        let cases: Vec<_> = cases.into_iter().filter(|(_, case)| through_view(case)).collect();
        let before = super::tree::tree(&world.writable("rw"), &[]);
        let acts = json!([{ "file-cases": cases.iter().map(|(_, case)| case).collect::<Vec<_>>() }]);
        let input = serde_json::to_vec(&json!({ "acts": acts })).unwrap();
        let began = std::time::Instant::now();
        let ran = world.daemon.run(palisade_proto::v1::RunStepRequest { input, ..request }).await;
        match ran {
            Ok(ran) => {
                let said = super::table::said(&ran.outcomes()[0]);
                assert!(said[0].contains("inside"), "{said:?}");
            }
            // Refusing it is as good.
            Err(refused) => assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}"),
        }
        let changed = super::tree::difference(&before, &super::tree::tree(&world.writable("rw"), &[]));
        crate::hostile::report::held_in(setting.name(), "FS-05", cases.len(), cases.len(), began.elapsed());
        assert_eq!(changed, [""; 0], "{setting:?}");
    }
}
