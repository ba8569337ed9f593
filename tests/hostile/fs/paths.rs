//! Paths that lead up, and paths that begin at the root.

use std::fs;

use super::{
    cases::{control, looks, matrix},
    table::{Row, hold},
    world::World,
};
use crate::hostile::settings::WALLED;

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_up_or_to_the_root() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        world.plant("from", |path| fs::write(path.join("file"), "inside").unwrap());
        let mut rows = up();
        rows.extend(others(&world));
        hold(&mut world, "FS-01", rows).await;
        let rows = absolute(&world);
        hold(&mut world, "FS-02", rows).await;
        world.must_be_clean();
    }
}

/// FS-01: `..` at every position.
fn up() -> Vec<Row> {
    let mut paths = Vec::new();
    for (inside, depth) in [("", 0), ("dir", 1), ("dir/deep", 2), ("dir/deep/.././deep", 2), ("./", 0), ("from//", 1)] {
        for (ups, target) in [(1, "secret"), (1, "neighbour/secret"), (2, "secret"), (2, "outside/dir"), (2, "made")] {
            let (up, sep) = (depth + ups, if inside.is_empty() || inside.ends_with('/') { "" } else { "/" });
            paths.push(format!("{inside}{sep}{}{target}", "../".repeat(up)));
        }
    }
    paths.extend(
        [
            "..",
            "../",
            "../.",
            "../..",
            "..//..//secret",
            "./..",
            "./../secret",
            ".././secret",
            "../ro/file",
            "../ro/../secret",
            "../rw/../secret",
            "../rw/file",
            "missing/../../secret",
            "file/../../secret",
            "link/../../secret",
            "dir/../../rw/../secret",
        ]
        .map(String::from),
    );
    // Longer than any path, and as long as a path can be.
    paths.push(format!("{}{}/secret", "dir/../".repeat(500), "../".repeat(3)));
    paths.push(format!("{}secret", "../".repeat(4096)));
    paths.push(format!("{}../secret", "./".repeat(4096)));
    paths.push(format!("{}secret", "../".repeat(1300)));
    let mut rows = vec![control("a file inside")];
    for (number, path) in paths.iter().enumerate() {
        let short: String = path.chars().take(60).collect();
        let all = matrix("/rw", path, "from/file", number);
        rows.extend(all.into_iter().map(|(act, case)| Row::refused(format!("{number} {act} {short}"), case)));
    }
    rows
}

/// FS-01: the workspaces of others, from a step's own, which lies beside them.
fn others(world: &World) -> Vec<Row> {
    let mut rows = Vec::new();
    for kept in world.kept() {
        let (tenant, workspace) = (kept.ancestors().nth(2).unwrap(), kept.file_name().unwrap().display());
        let tenant = tenant.file_name().unwrap().display();
        let mut ways = vec![
            format!("../../../{tenant}/workspaces/{workspace}/secret"),
            format!("./.././../../{tenant}/workspaces/{workspace}/made"),
            format!("{}/secret", kept.display()),
            format!("/proc/self/root{}/secret", kept.display()),
        ];
        if tenant.to_string() == "default" {
            ways.extend([format!("../{workspace}/secret"), format!("../{workspace}")]);
        }
        for (number, path) in ways.iter().enumerate() {
            let all = matrix("/workspace", path, "from/file", format!("{tenant}-{number}"));
            let way = path.replace(&*world.daemon.dir.path().to_string_lossy(), "…");
            rows.extend(all.into_iter().map(|(act, case)| Row::refused(format!("{tenant} {act} {way}"), case)));
        }
    }
    rows
}

/// FS-02: paths that begin at the root, and the kernel's own ways around.
fn absolute(world: &World) -> Vec<Row> {
    let root = world.root.display();
    let ours = [
        format!("{root}/secret"),
        format!("/{root}/secret"),
        format!("///.//{root}/outside/secret"),
        format!("{root}/outside/dir"),
        format!("{root}/made"),
        format!("{root}/mounts/rw/../secret"),
        format!("/proc/self/root{root}/secret"),
        format!("/proc/self/cwd{root}/secret"),
        format!("/proc/thread-self/root{root}/outside/dir"),
        format!("dir/{root}/secret"),
        "/rw/../secret".into(),
    ];
    let machine = [
        "/",
        "//",
        "/.",
        "/..",
        "/etc/passwd",
        "/etc/shadow",
        "/proc/self/environ",
        "/proc/1/environ",
        "/proc/self/mem",
        "/proc/self/maps",
        "/proc/self/fd/0",
        "/proc/self/fd/3",
        "/proc/self/exe",
        "/proc/self/task",
        "/dev/fd/0",
        "/dev/fd/3/../secret",
        "/dev/stdin",
        "/dev/zero",
        "/dev/mem",
        "/dev/shm",
        "/sys/kernel",
        "/tmp",
    ];
    let mut rows = vec![control("a file inside")];
    for (number, path) in ours.iter().enumerate() {
        let all = matrix("/rw", path, "from/file", 10_000 + number);
        rows.extend(all.into_iter().map(|(act, case)| Row::refused(format!("{act} {path}"), case)));
    }
    for mount in ["/ro", "/rw", "/workspace"] {
        for path in machine {
            let all = looks(mount, path);
            rows.extend(all.into_iter().map(|(act, case)| Row::refused(format!("{act} {path} from {mount}"), case)));
        }
    }
    rows
}
