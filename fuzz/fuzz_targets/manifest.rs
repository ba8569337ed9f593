//! Two manifests, with a line `===` between them: each is refused, or is stored and read as the same; and no difference
//! of what they reach is missing from what is shown.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::{
    manifest::{Difference, Manifest, difference, parse, reach},
    step::{Digest, Effect},
};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else { return Corpus::Reject };
    let (one, other) = text.split_once("\n===\n").unwrap_or((text, text));
    let (Ok(one), Ok(other)) = (parse(one), parse(other)) else { return Corpus::Reject };
    let stored = serde_json::to_vec(&one).expect("a manifest can be stored");
    assert_eq!(one, serde_json::from_slice(&stored).expect("what was stored is read"));
    assert_eq!(difference(&lines(&one), &lines(&one)), Difference::default());

    let without = |take: &dyn Fn(&mut Manifest)| {
        let mut less = one.clone();
        take(&mut less);
        assert_ne!(difference(&lines(&less), &lines(&one)).added, [""; 0], "more reach that is not shown");
        assert_ne!(difference(&lines(&one), &lines(&less)).removed, [""; 0], "less reach that is not shown");
    };
    (0..one.mounts.len()).for_each(|at| without(&|less| drop(less.mounts.remove(at))));
    (0..one.tools.len()).for_each(|at| without(&|less| drop(less.tools.remove(at))));
    (0..one.spaces.len()).for_each(|at| without(&|less| drop(less.spaces.remove(at))));
    one.powers.iter().for_each(|power| without(&|less| less.powers.retain(|other| other != power)));
    one.mounts.iter().enumerate().filter(|(_, mount)| mount.writable).for_each(|(at, _)| {
        without(&|less| less.mounts[at].writable = false);
    });
    one.spaces.iter().enumerate().filter(|(_, space)| space.writable).for_each(|(at, _)| {
        without(&|less| less.spaces[at].writable = false);
    });

    let (one, other) = (lines(&one), lines(&other));
    let same = one.iter().all(|line| other.contains(line)) && other.iter().all(|line| one.contains(line));
    assert_eq!(difference(&one, &other) == Difference::default(), same, "{one:?} and {other:?}");
    Corpus::Keep
});

fn lines(manifest: &Manifest) -> Vec<String> {
    // Routes are of a configuration, which there is none of here.
    reach(manifest, &[], |name| Some(("1".into(), Digest::of(name.as_bytes()), Effect::Read)))
}
