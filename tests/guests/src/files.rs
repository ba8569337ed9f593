//! Acts on files exactly as they are told: WASI itself, with no standard library in between to clean a path.

mod case;

use std::collections::BTreeMap;

pub use case::Case;
use case::{Act, BYTES_READ, ENTRIES_READ, WRITTEN};
use wasip2::filesystem::{
    preopens,
    types::{Advice, Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags},
};

/// Performs all cases, and returns what became of each.
pub fn all(cases: &[Case]) -> Vec<String> {
    let mounts = preopens::get_directories();
    cases.iter().map(|case| outcome(&mounts, case)).collect()
}

/// Performs all cases so many times, and returns how often each answer came.
pub fn race(cases: &[Case], times: u64) -> BTreeMap<String, u64> {
    let mounts = preopens::get_directories();
    let mut outcomes = BTreeMap::new();
    for case in (0..times).flat_map(|_| cases) {
        *outcomes.entry(outcome(&mounts, case)).or_default() += 1;
    }
    outcomes
}

fn outcome(mounts: &[(Descriptor, String)], case: &Case) -> String {
    match perform(mounts, case) {
        Ok(said) => format!("ok: {said}"),
        Err(code) => format!("error: {}", code.name()),
    }
}

fn perform(mounts: &[(Descriptor, String)], case: &Case) -> Result<String, ErrorCode> {
    let mount =
        |name: &str| mounts.iter().find(|(_, at)| at == name).map(|(mount, _)| mount).ok_or(ErrorCode::BadDescriptor);
    let at = mount(&case.at)?;
    let flags = if case.follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
    let open = |open, rights| at.open_at(flags, &case.path, open, rights);
    let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let none = OpenFlags::empty();
    let time = || {
        NewTimestamp::Timestamp(wasip2::clocks::wall_clock::Datetime { seconds: case.time.0, nanoseconds: case.time.1 })
    };
    match case.act {
        Act::OpenRead => Ok(taken(&open(none, read)?)),
        Act::OpenWrite => Ok(taken(&open(none, write)?)),
        Act::OpenReadWrite => Ok(taken(&open(none, read | write)?)),
        Act::Create => Ok(taken(&open(OpenFlags::CREATE, read | write)?)),
        Act::Exclusive => Ok(taken(&open(OpenFlags::CREATE | OpenFlags::EXCLUSIVE, read | write)?)),
        Act::CreateUnasked => Ok(taken(&open(OpenFlags::CREATE, read)?)),
        Act::Truncate => Ok(taken(&open(OpenFlags::TRUNCATE, read | write)?)),
        Act::TruncateUnasked => Ok(taken(&open(OpenFlags::TRUNCATE, read)?)),
        Act::Append => {
            let stream = open(none, write)?.append_via_stream()?;
            let sent = stream.blocking_write_and_flush(WRITTEN);
            Ok(format!("appended: {}", sent.is_ok()))
        }
        Act::OpenDirectory => Ok(taken(&open(OpenFlags::DIRECTORY, read)?)),
        Act::OpenMutable => Ok(taken(&open(OpenFlags::DIRECTORY, read | DescriptorFlags::MUTATE_DIRECTORY)?)),
        Act::Stat => at.stat_at(flags, &case.path).map(|stat| format!("{:?} of {} bytes", stat.type_, stat.size)),
        Act::ReadLink => at.readlink_at(&case.path),
        Act::Unlink => at.unlink_file_at(&case.path).map(|()| "gone".into()),
        Act::RemoveDirectory => at.remove_directory_at(&case.path).map(|()| "gone".into()),
        Act::MakeDirectory => at.create_directory_at(&case.path).map(|()| "made".into()),
        Act::Rename => at.rename_at(&case.path, mount(&case.to.0)?, &case.to.1).map(|()| "moved".into()),
        Act::Link => at.link_at(flags, &case.path, mount(&case.to.0)?, &case.to.1).map(|()| "linked".into()),
        Act::Symlink => at.symlink_at(&case.to.1, &case.path).map(|()| "made".into()),
        Act::SetTimes => at.set_times_at(flags, &case.path, time(), time()).map(|()| "set".into()),
        Act::SetSizeUnasked => open(none, read)?.set_size(case.time.0).map(|()| "set".into()),
        Act::SetSize => open(none, write)?.set_size(case.time.0).map(|()| "set".into()),
        Act::MetadataHash => at.metadata_hash_at(flags, &case.path).map(|_| "hashed".into()),
        Act::Sync => open(none, write)?.sync().map(|()| "synced".into()),
        Act::Advise => open(none, read)?.advise(0, u64::MAX, Advice::WillNeed).map(|()| "advised".into()),
    }
}

/// Takes all that an open descriptor gives, whatever it was opened for.
fn taken(opened: &Descriptor) -> String {
    let read = |file: &Descriptor| match file.read(BYTES_READ, 0) {
        Ok((bytes, _)) => format!("read: {}", String::from_utf8_lossy(&bytes)),
        Err(code) => format!("not read: {}", code.name()),
    };
    if opened.get_type() != Ok(DescriptorType::Directory) {
        let before = read(opened);
        let written = opened.write(WRITTEN, 0).is_ok();
        return format!("{before}, written: {written}");
    }
    let mut names = Vec::new();
    match opened.read_directory() {
        Ok(stream) => {
            while let Ok(Some(entry)) = stream.read_directory_entry() {
                names.push(entry.name);
            }
        }
        Err(code) => return format!("not listed: {}", code.name()),
    }
    let peeked = names.iter().take(ENTRIES_READ).map(|name| {
        match opened.open_at(PathFlags::SYMLINK_FOLLOW, name, OpenFlags::empty(), DescriptorFlags::READ) {
            Ok(file) => read(&file),
            Err(code) => code.name().into(),
        }
    });
    let peeked: Vec<_> = peeked.collect();
    format!("listed: {names:?}, {peeked:?}")
}
