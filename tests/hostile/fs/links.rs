//! Symbolic links, as an attacker's repository has them and as guests make them, with and without something behind.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    cases::{control, follows, rows_in},
    table::{Row, hold},
    world::World,
};
use crate::hostile::settings::WALLED;

/// A link that the host has made, and the path through it.
struct Link {
    name: &'static str,
    /// Made in order; the path ends at, or leads through, the first.
    links: Vec<(String, PathBuf)>,
    path: &'static str,
}

fn links(root: &Path) -> Vec<Link> {
    let link = |name, to: &str, path| Link { name, links: vec![("l".into(), to.into())], path };
    let to = |name, to: PathBuf, path| Link { name, links: vec![("l".into(), to)], path };
    let chain = |name, end: &str, length: usize| {
        let mut links: Vec<_> = (0..length).map(|n| (format!("l{n}"), PathBuf::from(format!("l{}", n + 1)))).collect();
        links.insert(0, ("l".into(), "l0".into()));
        links.push((format!("l{length}"), end.into()));
        Link { name, links, path: "l" }
    };
    vec![
        link("up", "../../secret", "l"),
        link("up to a directory", "../../neighbour", "l"),
        link("up and through", "../../neighbour", "l/secret"),
        link("far up and through", "../../../outside", "l/dir/secret"),
        link("through and up again", "../dir", "l/../../secret"),
        link("through to nothing", "../../neighbour", "l/made"),
        link("to a parent", "../..", "l/secret"),
        link("dangling outside", "../../made", "l"),
        link("to the read-only mount", "../../ro/file", "l"),
        link("into the read-only mount", "../../ro", "l/file"),
        link("to another writable mount", "../../other", "l/file"),
        link("to itself", "l", "l"),
        link("to proc", "/proc/self/root/etc/passwd", "l"),
        link("to the working directory", "/proc/self/cwd", "l"),
        link("to a descriptor", "/proc/self/fd/0", "l"),
        link("to the root", "/", "l"),
        link("to where the guest sees its mount", "/rw/file", "l"),
        to("absolute", root.join("secret"), "l"),
        to("absolute, to a directory", root.join("outside/dir"), "l"),
        to("absolute, through", root.join("outside"), "l/secret"),
        to("absolute, dangling", root.join("made"), "l"),
        chain("a chain of 8", "../../secret", 8),
        chain("a chain of 38", "../../secret", 38),
        chain("a chain of 60", "../../secret", 60),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_leads_out() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        let rows = planted(&world, &[""], "a");
        hold(&mut world, "FS-03", rows).await;
        let rows = made_by_guests(&world);
        hold(&mut world, "FS-03", rows).await;
        let rows = planted(&world, &["/", "//", "/.", "/.."], "b");
        hold(&mut world, "FS-04", rows).await;
        world.must_be_clean();
    }
}

/// The matrix for each link: acts that follow are refused to guests, others may do what they do to the link itself.
/// Each row has a link of its own: some acts take it away.
fn planted(world: &World, suffixes: &[&str], series: &str) -> Vec<Row> {
    let mut rows = vec![control("a file inside")];
    // What stands behind each suffix, too: for plain files and directories.
    let plain = ["file", "dir", "missing"].map(|path| Link { name: path, links: Vec::new(), path });
    let plain = plain.into_iter().filter(|_| suffixes.len() > 1);
    let mut number = 0;
    for link in links(&world.root).into_iter().chain(plain) {
        // Few suffixes are enough for those that differ in length or target only.
        let suffixes = if suffixes.len() > 1 && link.name.starts_with("a chain") { &suffixes[..1] } else { suffixes };
        for suffix in suffixes {
            let first = number;
            for (dir, act, case) in
                rows_in("/rw", &format!("{}{suffix}", link.path), |n| format!("{series}{}", first + n))
            {
                number += 1;
                world.plant(&dir, |at| {
                    fs::write(at.join("from"), "inside").unwrap();
                    if link.links.is_empty() {
                        fs::write(at.join("file"), "inside").unwrap();
                        fs::create_dir(at.join("dir")).unwrap();
                    }
                    for (name, target) in &link.links {
                        symlink(target, at.join(name)).unwrap();
                    }
                });
                let name = format!("{act} {}{suffix}", link.name);
                let refused = follows(&act) && !link.links.is_empty();
                // `l/..` may be where the link is: that the outside stays as it is decides.
                let refused = refused && *suffix != "/..";
                rows.push(if refused { Row::refused(name, case) } else { Row::either(name, case) });
            }
        }
    }
    rows
}

/// FS-03: what guests link themselves, and then go through.
fn made_by_guests(world: &World) -> Vec<Row> {
    world.plant("made", |at| fs::create_dir(at.join("dir")).unwrap());
    let secret = world.root.join("secret").display().to_string();
    let case = |act: &str, path: &str, to: &str| json!({ "act": act, "at": "/rw", "path": path, "to": ["/rw", to], "follow": true });
    let mut rows = vec![
        control("a file inside"),
        Row::control("a link inside is made", case("symlink", "made/good", "../file"), "made"),
    ];
    if world.setting.has_guests() {
        rows.push(Row::control("a link inside is followed", case("open-read", "made/good", ""), "inside"));
    } else {
        rows[1] = Row::either("a link inside is made", case("symlink", "made/good", "../file"));
    }
    let targets = [
        secret.as_str(),
        "../../secret",
        "../../../secret",
        "../../neighbour",
        "../../../outside/dir",
        "/",
        "/proc/self/root",
        "/rw/file",
        "dir/../../../secret",
        "./../../secret",
        "../../made-outside",
        "../../ro/file",
        "",
    ];
    for (number, target) in targets.iter().enumerate() {
        let link = format!("made/{number}");
        let name = |what: &str| format!("{what} a link to `{target}` ({number})");
        rows.push(Row::either(name("make"), case("symlink", &link, target)));
        for suffix in ["", "/", "/.", "/secret"] {
            let path = format!("{link}{suffix}");
            for act in
                ["open-read", "open-write", "create", "truncate", "open-directory", "append", "set-times", "stat"]
            {
                let (name, case) = (name(&format!("{act}{suffix} through")), case(act, &path, ""));
                // What no guest can make, it may make a file in place of.
                let made = !target.starts_with('/') && !target.is_empty();
                rows.push(if made { Row::refused(name, case) } else { Row::either(name, case) });
            }
        }
        // Moved to another depth, it points elsewhere.
        rows.push(Row::either(name("move"), case("rename", &link, &format!("moved-{number}"))));
        rows.push(Row::either(name("read the moved"), case("open-read", &format!("moved-{number}"), "")));
        rows.push(Row::either(name("write the moved"), case("create", &format!("moved-{number}"), "")));
    }
    rows
}
