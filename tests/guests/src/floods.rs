//! Takes too much of one thing: `floods fields 40000`. It ends with 0 if it was given all of it, and with 1 if it was
//! told that it cannot have it; mostly a limit ends it.

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let count = arguments.get(2).and_then(|count| count.parse().ok()).unwrap_or(1);
    let had = arguments.get(1).is_some_and(|what| sandboxed::take(what, count));
    std::process::exit(i32::from(!had));
}

#[cfg(not(target_os = "wasi"))]
mod sandboxed {
    pub fn take(_: &str, _: u64) -> bool {
        false
    }
}

#[cfg(target_os = "wasi")]
mod sandboxed {
    use std::mem::forget;

    use wasip2::{
        cli::{environment, stdin, stdout},
        clocks::monotonic_clock as clock,
        filesystem::{
            preopens,
            types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags},
        },
        http::types::{Fields, Method, OutgoingRequest, Scheme},
        io::poll::{Pollable, poll},
        random::{insecure, random},
        sockets::{instance_network::instance_network, ip_name_lookup::resolve_addresses},
    };

    /// Takes `count` of something and keeps it; returns whether it could be had.
    pub fn take(what: &str, count: u64) -> bool {
        match what {
            "fields" => keep(count, || Some(Fields::new())),
            "field-names" => {
                let fields = Fields::new();
                (0..count).all(|n| fields.append(&format!("x-{n}"), b"v").is_ok())
            }
            "field-values" => {
                let fields = Fields::new();
                (0..count).all(|_| fields.append("x", b"v").is_ok())
            }
            "field-value" => Fields::new().append("x", &vec![b'v'; count as usize]).is_ok(),
            "field-copies" => {
                let fields = Fields::new();
                let filled = fields.append("x", &vec![b'v'; 60_000]).is_ok();
                filled && keep(count, || Some(fields.clone()))
            }
            "requests" => keep(count, || Some(OutgoingRequest::new(Fields::new()))),
            "request-bodies" => keep(count, || {
                let request = OutgoingRequest::new(Fields::new());
                let body = request.body().ok()?;
                let stream = body.write().ok()?;
                Some((request, body, stream))
            }),
            "pollables" => keep(count, || Some(clock::subscribe_duration(u64::MAX))),
            "subscriptions" => {
                let stdin = stdin::get_stdin();
                let kept = keep(count, || Some(stdin.subscribe()));
                // Nothing goes before what came from it.
                forget(stdin);
                kept
            }
            "outputs" => keep(count, || Some(stdout::get_stdout())),
            "directories" => keep(count, || Some(preopens::get_directories())),
            "descriptors" => keep(count, || create(&root(), "same")),
            "file-streams" => {
                let file = create(&root(), "same").expect("a file");
                keep(count, || file.read_via_stream(0).ok())
            }
            "listings" => keep(count, || root().read_directory().ok()),
            "networks" => keep(count, || Some(instance_network())),
            // One pollable, so many times: never ready.
            "poll-many" => {
                let never = clock::subscribe_duration(u64::MAX);
                poll(&vec![&never; count as usize]).is_empty()
            }
            // All ready at once.
            "poll-ready" => {
                let now = clock::subscribe_duration(0);
                now.block();
                poll(&vec![&now; count as usize]).len() as u64 == count
            }
            "poll-none" => poll(&[] as &[&Pollable]).is_empty(),
            "poll-storm" => forever(|| {
                let pollables: Vec<_> = (0..count).map(|_| clock::subscribe_duration(0)).collect();
                poll(&pollables.iter().collect::<Vec<_>>());
            }),
            "sleep" => {
                clock::subscribe_duration(u64::MAX).block();
                true
            }
            "sleep-until" => {
                clock::subscribe_instant(u64::MAX).block();
                true
            }
            "random" => random::get_random_bytes(count).len() as u64 == count,
            "insecure-random" => insecure::get_insecure_random_bytes(count).len() as u64 == count,
            "random-storm" => forever(|| drop(random::get_random_bytes(65_536))),
            "read" => root_file(64 << 20).read(count, 0).is_ok(),
            "stream-read" => {
                let file = root_file(64 << 20);
                file.read_via_stream(0).is_ok_and(|stream| stream.blocking_read(count).is_ok())
            }
            "stream-skip" => {
                let file = root_file(64 << 20);
                file.read_via_stream(0).is_ok_and(|stream| stream.blocking_skip(count).is_ok())
            }
            "stdin-read" => stdin::get_stdin().blocking_read(count).is_ok(),
            "zeroes" => stdout::get_stdout().write_zeroes(count).is_ok(),
            "file-zeroes" => {
                let file = root_file(1);
                file.write_via_stream(0).is_ok_and(|stream| stream.blocking_write_zeroes_and_flush(count).is_ok())
            }
            "splice" => {
                let file = root_file(64 << 20);
                let from = file.read_via_stream(0).expect("a stream");
                stdout::get_stdout().blocking_splice(&from, count).is_ok()
            }
            "environment-storm" => forever(|| drop(environment::get_environment())),
            "clock-storm" => forever(|| {
                clock::now();
            }),
            "stat-storm" => {
                let root = root();
                forever(|| {
                    let _ = root.stat();
                })
            }
            "drop-storm" => forever(|| drop(Fields::new())),
            "disk" => {
                let (root, mut n) = (root(), 0);
                forever(move || {
                    n += 1;
                    let file = create(&root, &format!("file-{n}")).expect("an entry");
                    file.write(&[b'x'; 60_000], 0).expect("room");
                })
            }
            "deep" => {
                let (mut at, mut depth) = (root(), 0);
                while at.create_directory_at("d").is_ok() && depth < count {
                    let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
                    let Ok(below) = at.open_at(PathFlags::empty(), "d", OpenFlags::DIRECTORY, flags) else { break };
                    (at, depth) = (below, depth + 1);
                }
                depth == count
            }
            text => told(text, &"x".repeat(count as usize)),
        }
    }

    /// Hands a long text to one function of the host; returns whether it was accepted.
    fn told(function: &str, text: &str) -> bool {
        let request = || OutgoingRequest::new(Fields::new());
        let fields = Fields::new;
        match function {
            "open-at" => create(&root(), text).is_some(),
            "stat-at" => root().stat_at(PathFlags::empty(), text).is_ok(),
            "link-at" => root().link_at(PathFlags::empty(), text, &root(), text).is_ok(),
            "symlink-at" => root().symlink_at(text, text).is_ok(),
            "readlink-at" => root().readlink_at(text).is_ok(),
            "rename-at" => root().rename_at(text, &root(), text).is_ok(),
            "unlink-at" => root().unlink_file_at(text).is_ok(),
            "create-directory-at" => root().create_directory_at(text).is_ok(),
            "remove-directory-at" => root().remove_directory_at(text).is_ok(),
            "metadata-hash-at" => root().metadata_hash_at(PathFlags::empty(), text).is_ok(),
            "set-times-at" => {
                let now = NewTimestamp::Now;
                root().set_times_at(PathFlags::empty(), text, now, now).is_ok()
            }
            "write" => root_file(1).write(text.as_bytes(), 0).is_ok(),
            "fields-append" => fields().append(text, b"v").is_ok(),
            "fields-set" => fields().set("x", &[text.as_bytes().to_vec()]).is_ok(),
            "fields-get" => fields().get(text).is_empty(),
            "fields-has" => fields().has(text),
            "fields-delete" => fields().delete(text).is_ok(),
            "fields-from-list" => {
                let one = (String::from("x"), text.as_bytes()[..text.len().min(100)].to_vec());
                Fields::from_list(&vec![one; text.len() / 100]).is_ok()
            }
            "set-method" => request().set_method(&Method::Other(text.to_owned())).is_ok(),
            "set-path" => request().set_path_with_query(Some(&format!("/{text}"))).is_ok(),
            "set-authority" => request().set_authority(Some(text)).is_ok(),
            "set-scheme" => request().set_scheme(Some(&Scheme::Other(text.to_owned()))).is_ok(),
            "stdout-write" => stdout::get_stdout().write(text.as_bytes()).is_ok(),
            "resolve-addresses" => resolve_addresses(&instance_network(), text).is_ok(),
            _ => panic!("there is no flood `{function}`"),
        }
    }

    fn keep<T>(count: u64, mut make: impl FnMut() -> Option<T>) -> bool {
        let mut made = (0..count).map(|_| make());
        made.all(|one| one.map(forget).is_some())
    }

    fn forever(mut act: impl FnMut()) -> bool {
        loop {
            act();
        }
    }

    /// The step's workspace.
    fn root() -> Descriptor {
        preopens::get_directories().into_iter().next().expect("a workspace").0
    }

    fn create(root: &Descriptor, name: &str) -> Option<Descriptor> {
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        root.open_at(PathFlags::empty(), name, OpenFlags::CREATE, flags).ok()
    }

    /// A sparse file of so many bytes.
    fn root_file(bytes: u64) -> Descriptor {
        let file = create(&root(), "sparse").expect("a file");
        file.set_size(bytes).expect("room");
        file
    }
}
