//! A checkpoint opens only as exactly the text that its key signed, whoever wrote it; every proper one opens; and keys
//! are read as they are written.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use libfuzzer_sys::fuzz_target;
use palisade::{
    journal::{Checkpoint, Hash, PublicKey},
    step::Digest,
};

const NAME: &str = "palisade/fuzz";

/// A key that everybody knows, in the form of signed notes.
static KEY: LazyLock<(SigningKey, String, PublicKey)> = LazyLock::new(|| {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = [&[1], key.verifying_key().as_bytes().as_slice()].concat();
    let id = Digest::of(&[NAME.as_bytes(), b"\n", &public].concat()).hex()[..8].to_owned();
    let public = format!("{NAME}+{id}+{}", STANDARD.encode(public)).parse().expect("it is a key");
    (key, id, public)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse::<PublicKey>().expect("what was written is read"), key);
    }
    if let Ok(opened) = Checkpoint::open(text, &KEY.2) {
        assert!(text.starts_with(&format!("{}\n", opened.text())));
    }
    for signed in [format!("{text}\n"), format!("{NAME}\n{text}\n")] {
        if let Ok(opened) = Checkpoint::open(&note(&signed), &KEY.2) {
            assert_eq!(opened.text(), signed);
        }
    }
    let root = Hash::leaf(data);
    let size = data.iter().fold(0_u64, |size, byte| size.wrapping_mul(257).wrapping_add(u64::from(*byte)));
    let proper = Checkpoint { origin: NAME.into(), size, root };
    assert_eq!(Checkpoint::open(&note(&proper.text()), &KEY.2).expect("a proper one opens"), proper);
});

/// Returns `text` with the key's signature.
fn note(text: &str) -> String {
    let (key, id, _) = &*KEY;
    let id = u32::from_str_radix(id, 16).expect("it is hex").to_be_bytes();
    let signature = STANDARD.encode([id.as_slice(), &key.sign(text.as_bytes()).to_bytes()].concat());
    format!("{text}\n\u{2014} {NAME} {signature}\n")
}
