//! Values are read when they are needed, and only as they are now.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{Opening, Read, VALUE_BYTES_MAX};
use crate::credentials::{
    config::{Exec, Source},
    tests::{Folder, NoFetch, advance, now},
};

fn open(source: Source) -> Arc<dyn Read> {
    Opening::new(&|_| None, Arc::new(NoFetch), now).open(&source).unwrap()
}

fn write(path: &Path, mode: u32, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn value(source: &Arc<dyn Read>) -> Result<String, String> {
    source.read().await.map(|value| String::from_utf8(value.expose().to_vec()).unwrap()).map_err(|why| why.0)
}

fn program(script: &str) -> Exec {
    let command = ["/bin/sh", "-c", script].map(String::from).into();
    Exec { command, timeout_ms: 5_000, cache_ms: 60_000 }
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let folder = Folder::new();
    let path = folder.path("token");
    write(&path, 0o600, "first\n");
    let source = open(Source::File(path.clone()));
    let first = source.read().await.unwrap();
    assert_eq!(first.expose(), b"first");
    assert!(Arc::ptr_eq(&first, &source.read().await.unwrap()));
    // In place, at once, and of the same size.
    write(&path, 0o600, "other\n");
    assert_eq!(value(&source).await.unwrap(), "other");
    // As it should be: another file under the same name.
    write(&folder.path("new"), 0o600, "third\r\n");
    fs::rename(folder.path("new"), &path).unwrap();
    assert_eq!(value(&source).await.unwrap(), "third");
}

#[tokio::test]
async fn a_file_that_changes_within_one_tick_of_its_time_stamp_is_read_again() {
    let folder = Folder::new();
    let path = folder.path("token");
    write(&path, 0o600, "0000");
    let source = open(Source::File(path.clone()));
    for round in 0..500 {
        let text = format!("{round:04}");
        fs::write(&path, &text).unwrap();
        assert_eq!(value(&source).await.unwrap(), text);
    }
}

#[tokio::test]
async fn an_old_file_that_did_not_change_is_the_same_value() {
    let folder = Folder::new();
    let path = folder.path("token");
    write(&path, 0o600, "a value");
    let source = open(Source::File(path.clone()));
    let first = source.read().await.unwrap();
    // A new time, and the same value: nothing needs to be made of it again.
    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(Arc::ptr_eq(&first, &source.read().await.unwrap()));
    source.forget();
    assert!(!Arc::ptr_eq(&first, &source.read().await.unwrap()));
}

#[tokio::test]
async fn a_file_that_is_gone_has_no_value() {
    let folder = Folder::new();
    let path = folder.path("token");
    write(&path, 0o600, "a value");
    let source = open(Source::File(path.clone()));
    assert!(value(&source).await.is_ok());
    fs::remove_file(&path).unwrap();
    let why = value(&source).await.unwrap_err();
    assert!(why.contains("token") && !why.contains("a value"), "{why}");
}

#[tokio::test]
async fn what_is_no_proper_secret_file_is_refused() {
    let folder = Folder::new();
    let path = folder.path("token");
    let fails = async |text: &str, mode, word: &str| {
        write(&path, mode, text);
        let why = value(&open(Source::File(path.clone()))).await.unwrap_err();
        assert!(why.contains(word), "{why}");
    };
    fails("a value", 0o604, "read by everybody").await;
    fails("a value", 0o602, "written by everybody").await;
    fails("", 0o600, "empty").await;
    fails("\n", 0o600, "empty").await;
    fails(&"x".repeat(VALUE_BYTES_MAX + 1), 0o600, "more than").await;
    fails(&"x".repeat(VALUE_BYTES_MAX * 9), 0o600, "more than").await;
    write(&path, 0o640, "x".repeat(VALUE_BYTES_MAX) + "\r\n");
    assert_eq!(value(&open(Source::File(path))).await.unwrap().len(), VALUE_BYTES_MAX);
    let why = value(&open(Source::File(folder.path("")))).await.unwrap_err();
    assert!(why.contains("not a regular file"), "{why}");
    let pipe = folder.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let why = value(&open(Source::File(pipe))).await.unwrap_err();
    assert!(why.contains("not a regular file"), "{why}");
}

#[tokio::test]
async fn one_newline_is_cut_and_no_more() {
    let folder = Folder::new();
    for (written, read) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("a\r", "a\r")]
    {
        write(&folder.path("token"), 0o600, written);
        assert_eq!(value(&open(Source::File(folder.path("token")))).await.unwrap(), read);
    }
}

#[tokio::test]
async fn systemd_guards_its_credentials_whatever_their_modes() {
    let folder = Folder::new();
    write(&folder.path("token"), 0o644, "from systemd");
    let directory = folder.path("");
    let env = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.clone().into_os_string());
    let mut opening = Opening::new(&env, Arc::new(NoFetch), now);
    assert_eq!(value(&opening.open(&Source::Systemd("token".into())).unwrap()).await.unwrap(), "from systemd");
    assert_eq!(value(&opening.open(&Source::File(folder.path("token"))).unwrap()).await.unwrap(), "from systemd");
    let mut without = Opening::new(&|_| None, Arc::new(NoFetch), now);
    assert!(without.open(&Source::Systemd("token".into())).err().unwrap().contains("CREDENTIALS_DIRECTORY"));
}

#[tokio::test]
async fn a_variable_is_read_once_at_start() {
    let env = |name: &str| (name == "TOKEN").then(|| "from the environment".into());
    let mut opening = Opening::new(&env, Arc::new(NoFetch), now);
    let source = opening.open(&Source::Env("TOKEN".into())).unwrap();
    source.forget();
    assert_eq!(value(&source).await.unwrap(), "from the environment");
    assert!(opening.open(&Source::Env("OTHER".into())).err().unwrap().contains("`OTHER` is not set"));
}

#[tokio::test]
async fn a_program_is_run_again_when_its_value_expires() {
    let folder = Folder::new();
    let counter = folder.path("counter");
    let script = format!("echo x >> {0}; echo value-$(wc -l < {0})", counter.display());
    let source = open(Source::Exec(program(&script)));
    assert_eq!(value(&source).await.unwrap(), "value-1");
    advance(59);
    assert_eq!(value(&source).await.unwrap(), "value-1");
    advance(1);
    assert_eq!(value(&source).await.unwrap(), "value-2");
    // The clock went back: nobody knows how old it is.
    advance(-3600);
    assert_eq!(value(&source).await.unwrap(), "value-3");
    source.forget();
    assert_eq!(value(&source).await.unwrap(), "value-4");
}

#[tokio::test]
async fn a_program_may_say_when_its_value_expires() {
    let folder = Folder::new();
    let counter = folder.path("counter");
    let script =
        format!(r#"echo x >> {0}; echo '{{"value": "a\"b-'$(wc -l < {0})'", "expires_in": 5}}'"#, counter.display());
    let source = open(Source::Exec(program(&script)));
    assert_eq!(value(&source).await.unwrap(), "a\"b-1");
    advance(4);
    assert_eq!(value(&source).await.unwrap(), "a\"b-1");
    advance(1);
    assert_eq!(value(&source).await.unwrap(), "a\"b-2");
}

#[tokio::test]
async fn calls_at_the_same_time_run_a_program_once() {
    let folder = Folder::new();
    let counter = folder.path("counter");
    let source = open(Source::Exec(program(&format!("echo x >> {0}; echo value", counter.display()))));
    let read = futures::future::join_all((0..20).map(|_| source.read())).await;
    assert!(read.iter().all(|value| value.is_ok()));
    assert_eq!(fs::read_to_string(counter).unwrap(), "x\n");
}

#[tokio::test]
async fn a_program_sees_nothing_but_its_path() {
    let source = open(Source::Exec(program("env | cut -d= -f1 | sort | tr '\\n' ' '; pwd; cat")));
    let seen = value(&source).await.unwrap();
    // The shell itself sets PWD and its like.
    let names: Vec<_> =
        seen.split_whitespace().filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name)).collect();
    assert_eq!(names, ["PATH", "/"]);
}

#[tokio::test]
async fn a_program_that_fails_gives_no_value_and_no_hint_of_it() {
    let folder = Folder::new();
    let fails = async |exec: Exec, word: &str| {
        let why = value(&open(Source::Exec(exec))).await.unwrap_err();
        assert!(why.contains(word) && !why.contains("hunter2"), "{why}");
    };
    fails(program("echo hunter2; echo hunter2 >&2; exit 3"), "exit status: 3").await;
    fails(program("true"), "empty").await;
    fails(program("yes hunter2"), "more than").await;
    fails(Exec { command: vec![folder.path("none").to_string_lossy().into()], ..program("") }, "cannot be started")
        .await;
    fails(Exec { timeout_ms: 50, ..program("echo hunter2; sleep 60") }, "`timeout_ms` of 50").await;
}

#[tokio::test]
async fn a_program_that_is_too_slow_dies_with_all_that_it_started() {
    let folder = Folder::new();
    let pid = folder.path("pid");
    let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
    let source = open(Source::Exec(Exec { timeout_ms: 60_000, ..program(&script) }));
    let started = async {
        while !pid.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = source.read() => unreachable!("it waits"),
        () = started => {}
    }
    let child: PathBuf = format!("/proc/{}/stat", fs::read_to_string(&pid).unwrap().trim()).into();
    // Gone, or dead and not yet collected by init.
    let alive = || fs::read_to_string(&child).is_ok_and(|stat| !stat.contains(") Z"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while alive() && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(!alive());
}

#[tokio::test]
async fn a_failure_stands_for_a_moment_and_does_not_outlive_it() {
    let folder = Folder::new();
    let path = folder.path("value");
    let counter = folder.path("counter");
    let script = format!("echo x >> {}; cat {}", counter.display(), path.display());
    let source = open(Source::Exec(program(&script)));
    for _ in 0..5 {
        assert!(value(&source).await.is_err());
    }
    assert_eq!(fs::read_to_string(&counter).unwrap(), "x\n");
    fs::write(&path, "there now").unwrap();
    advance(1);
    assert_eq!(value(&source).await.unwrap(), "there now");
}
