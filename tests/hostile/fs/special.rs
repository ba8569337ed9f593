//! What is no file: FIFOs, sockets and devices that stand in a mount.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::mkfifo,
};

use super::{
    cases::{control, follows, rows_in},
    table::{Row, hold},
    world::World,
};
use crate::hostile::settings::WALLED;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_not_opened_and_holds_nobody_up() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        let mut rows = vec![control("a file inside")];

        let mut number = 0;
        for kind in ["fifo", "socket", "zero", "null", "disk", "link to a fifo", "link to a device"] {
            for suffix in ["", "/"] {
                let first = number;
                for (dir, act, case) in rows_in("/rw", &format!("it{suffix}"), |n| format!("s{}", first + n)) {
                    number += 1;
                    let mut made = Ok(());
                    world.plant(&dir, |at| {
                        fs::write(at.join("from"), "inside").unwrap();
                        made = make(kind, at);
                    });
                    if made.is_err() {
                        continue;
                    }
                    let name = format!("{act} {kind}{suffix}");
                    // What it is, anybody may see who may list it.
                    let looks = act.starts_with("stat") || act.starts_with("metadata-hash");
                    let refused = follows(&act) && !looks && (!kind.starts_with("link") || suffix.is_empty());
                    rows.push(if refused { Row::refused(name, case) } else { Row::either(name, case) });
                }
            }
        }
        if !rows.iter().any(|row| row.name.contains("zero")) {
            println!("SKIPPED: this user may not make device nodes");
        }
        let began = Instant::now();
        hold(&mut world, "FS-08", rows).await;
        assert!(began.elapsed() < Duration::from_secs(30), "something waited: {:?}", began.elapsed());
        world.must_be_clean();
    }
}

fn make(kind: &str, at: &Path) -> Result<(), Errno> {
    let it = at.join("it");
    let device = |kind, major, minor| mknod(&it, kind, Mode::from_bits_truncate(0o666), makedev(major, minor));
    match kind {
        "fifo" => mkfifo(&it, Mode::S_IRWXU),
        "socket" => {
            // It stays when nobody listens any more.
            drop(UnixListener::bind(&it).unwrap());
            Ok(())
        }
        "zero" => device(SFlag::S_IFCHR, 1, 5),
        "null" => device(SFlag::S_IFCHR, 1, 3),
        // A number that no disk has.
        "disk" => device(SFlag::S_IFBLK, 240, 200),
        "link to a fifo" => {
            symlink("fifo", &it).unwrap();
            mkfifo(&at.join("fifo"), Mode::S_IRWXU)
        }
        _ => {
            symlink("/dev/zero", &it).unwrap();
            Ok(())
        }
    }
}
