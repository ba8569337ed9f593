//! What can be held, and a host: a scope is read as it is written, also from the disk; and what a request can reach can
//! be held.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::{
    control::{Scope, Target},
    egress::Host,
};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else { return Corpus::Reject };
    let (scope, host) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(host) = host.parse::<Host>() {
        let scope: Scope = format!("hosts/{host}").parse().expect("what a request can reach can be held");
        assert_eq!(scope, Scope::Host(host.to_string()));
    }
    let Ok(read) = scope.parse::<Scope>() else { return Corpus::Keep };
    assert_eq!(read.to_string(), scope, "it has one spelling");
    let kept = serde_json::to_string(&read).expect("it can be kept");
    assert_eq!(serde_json::from_str::<Scope>(&kept).expect("what was kept is read"), read);
    if let (Scope::Host(held), Ok(host)) = (&read, host.parse::<Host>()) {
        let host = host.to_string();
        let covered = match held.strip_prefix('*') {
            Some(parent) => host.len() > parent.len() && host.ends_with(parent),
            None => host == *held,
        };
        assert_eq!(Target { host: Some(&host), ..Target::default() }.is_in(&read), covered, "`{held}` and `{host}`");
    }
    Corpus::Keep
});
