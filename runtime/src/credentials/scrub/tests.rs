//! Whatever the value, its encoding and the chunks: nothing of it comes out, and everything else does.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::HeaderValue;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{Scrubber, encodings};

const TOKEN: &[u8] = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a";
const ODD: &[u8] = "pä$$w/rd+\"<&>'\\ ~%=".as_bytes();

fn scrubber(value: &[u8]) -> Scrubber {
    Scrubber::of(&[value]).unwrap()
}

fn scrub(scrubber: &Scrubber, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut stream = scrubber.stream();
    let mut clean = Vec::new();
    for chunk in chunks {
        clean.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    clean.extend_from_slice(&stream.finish());
    (clean, stream.hits())
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_value_is_masked_in_its_own_length() {
    let text = [b"before ", TOKEN, b" after"].concat();
    let (clean, hits) = scrub(&scrubber(TOKEN), &[&text]);
    assert_eq!(clean, format!("before {} after", "*".repeat(TOKEN.len())).into_bytes());
    assert_eq!(hits, 1);
}

/// Written out by hand or by other encoders, so that a mistake in ours shows.
#[test]
fn the_encodings_of_others_are_found() {
    let text = std::str::from_utf8(ODD).unwrap();
    let hex: String = ODD.iter().map(|byte| format!("{byte:02x}")).collect();
    let utf16: Vec<u16> = text.encode_utf16().collect();
    let others: Vec<(&str, Vec<u8>)> = vec![
        ("raw", ODD.into()),
        ("json", serde_json::to_string(text).unwrap().trim_matches('"').into()),
        ("json with slashes", "pä$$w\\/rd+\\\"<&>'\\\\ ~%=".into()),
        ("json in ascii", "p\\u00e4$$w/rd+\\\"<&>'\\\\ ~%=".into()),
        ("json for html", "pä$$w/rd+\\\"\\u003c\\u0026\\u003e'\\\\ ~%=".into()),
        ("percent", "p%C3%A4%24%24w%2Frd%2B%22%3C%26%3E%27%5C%20~%25%3D".into()),
        ("percent, lower", "p%c3%a4%24%24w%2frd%2b%22%3c%26%3e%27%5c%20~%25%3d".into()),
        ("encodeURIComponent", "p%C3%A4%24%24w%2Frd%2B%22%3C%26%3E'%5C%20~%25%3D".into()),
        ("encodeURI", "p%C3%A4$$w/rd+%22%3C&%3E'%5C%20~%25=".into()),
        ("form", "p%C3%A4%24%24w%2Frd%2B%22%3C%26%3E%27%5C+%7E%25%3D".into()),
        ("html", "pä$$w/rd+&quot;&lt;&amp;&gt;&#39;\\ ~%=".into()),
        ("html, by number", text.chars().map(|c| format!("&#{};", c as u32)).collect::<String>().into()),
        ("html, by hex number", text.chars().map(|c| format!("&#x{:x};", c as u32)).collect::<String>().into()),
        ("hex", hex.clone().into()),
        ("HEX", hex.to_uppercase().into()),
        ("utf-16le", utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect()),
        ("utf-16be", utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect()),
        ("reversed", ODD.iter().rev().copied().collect()),
        ("base64", STANDARD.encode(ODD).into()),
        ("base64url", URL_SAFE.encode(ODD).into()),
        ("base64, bare", STANDARD_NO_PAD.encode(ODD).into()),
        ("base64url, bare", URL_SAFE_NO_PAD.encode(ODD).into()),
    ];
    let scrubber = scrubber(ODD);
    for (name, encoded) in others {
        let (clean, hits) = scrub(&scrubber, &[b"[", &encoded, b"]"]);
        let masked = [&b"["[..], &b"*".repeat(encoded.len()), b"]"].concat();
        assert_eq!((clean, hits), (masked, 1), "{name}");
    }
}

#[test]
fn a_value_inside_of_longer_base64_is_found_wherever_it_begins() {
    let scrubber = scrubber(TOKEN);
    for before in 0..6 {
        for after in 0..4 {
            let long = [&b"user:x"[..before], TOKEN, &b" end"[..after]].concat();
            let (clean, hits) = scrub(&scrubber, &[STANDARD.encode(&long).as_bytes()]);
            assert_eq!(hits, 1, "{before} {after}");
            // Of 320 bits, those that share a digit with a neighbour may stay: less than 12.
            let stays = clean.iter().filter(|byte| **byte != b'*').count();
            assert!(stays <= (before + after) * 8 / 6 + 4, "{before} {after}: {}", String::from_utf8_lossy(&clean));
        }
    }
}

#[test]
fn headers_and_texts_are_masked_too() {
    let scrubber = scrubber(TOKEN);
    let token = std::str::from_utf8(TOKEN).unwrap();
    assert_eq!(scrubber.text(&format!("bad token {token}!")), format!("bad token {}!", "*".repeat(40)));
    let dirty = HeaderValue::from_str(&format!("https://x.test/?t={token}")).unwrap();
    let clean = scrubber.header(&dirty);
    assert_eq!(clean.as_bytes(), format!("https://x.test/?t={}", "*".repeat(40)).as_bytes());
    assert!(clean.is_sensitive());
    let other = HeaderValue::from_static("text/plain");
    assert_eq!(scrubber.header(&other), other);
    assert!(!scrubber.header(&other).is_sensitive());
}

#[test]
fn a_short_value_is_found_as_it_is_only() {
    let scrubber = scrubber(b"1234567");
    assert_eq!(scrub(&scrubber, &[b"a1234567b"]), (b"a*******b".to_vec(), 1));
    assert_eq!(scrub(&scrubber, &[b"31323334353637"]), (b"31323334353637".to_vec(), 0));
    let (clean, hits) = scrub(&self::scrubber(b"ab"), &[b"xa", b"bx", b"a"]);
    assert_eq!((clean, hits), (b"x**xa".to_vec(), 1));
}

#[test]
fn without_values_chunks_pass_untouched() {
    for scrubber in [Scrubber::default(), scrubber(b""), Scrubber::of(&[]).unwrap()] {
        let chunk = Bytes::from_static(b"anything");
        let mut stream = scrubber.stream();
        let passed = stream.push(chunk.clone());
        assert_eq!(passed.as_ptr(), chunk.as_ptr());
        assert!(stream.finish().is_empty());
    }
}

#[test]
fn a_chunk_without_a_value_is_not_copied_and_not_held_back() {
    let chunk = Bytes::from_static(b"data: an event\n\n");
    let passed = scrubber(TOKEN).stream().push(chunk.clone());
    assert_eq!((passed.as_ptr(), passed.len()), (chunk.as_ptr(), chunk.len()));
}

#[test]
fn only_what_may_be_the_beginning_of_a_value_is_held_back() {
    let mut stream = scrubber(TOKEN).stream();
    assert_eq!(stream.push(Bytes::from_static(b"data: ghp_16C7")), "data: ");
    assert_eq!(stream.push(Bytes::from_static(b"!")), "ghp_16C7!");
    assert_eq!(stream.push(Bytes::from_static(b"g")), "");
    assert_eq!(stream.finish(), "g");
}

#[test]
fn values_that_overlap_are_masked_together() {
    let scrubber = scrubber(b"abcdabcdabcd");
    assert_eq!(scrub(&scrubber, &[b"xabcdabcdabcdabcdx"]), (b"x****************x".to_vec(), 1));
    assert_eq!(scrub(&scrubber, &[b"xabcdabcd", b"abcd", b"abcdx"]), (b"x****************x".to_vec(), 1));
}

#[test]
fn a_value_inside_of_another_does_not_cut_it_short() {
    let scrubber = Scrubber::of(&[b"abcdefghijklmnop", b"efghijkl"]).unwrap();
    assert_eq!(scrub(&scrubber, &[b"xabcdefghijklmnopx"]), (b"x****************x".to_vec(), 1));
    assert_eq!(scrub(&scrubber, &[b"xabcdefghijk", b"lmnopx"]), (b"x****************x".to_vec(), 1));
}

#[test]
fn every_value_of_several_is_found() {
    let scrubber = Scrubber::of(&[b"first-value", b"second-value"]).unwrap();
    let (clean, hits) = scrub(&scrubber, &[b"first-value second-value ", b"eulav-tsrif"]);
    assert_eq!((clean, hits), (b"*********** ************ ***********".to_vec(), 3));
}

/// The patterns are what the encoders say; here a search that cannot be wrong finds them.
fn reference(text: &[u8], patterns: &[Vec<u8>]) -> Vec<u8> {
    let mut clean = text.to_vec();
    for pattern in patterns {
        for (at, window) in text.windows(pattern.len()).enumerate() {
            if window == pattern {
                clean[at..at + pattern.len()].fill(b'*');
            }
        }
    }
    clean
}

fn patterns(value: &[u8]) -> Vec<Vec<u8>> {
    encodings::all(value).into_iter().map(|pattern| pattern.to_vec()).collect()
}

/// Text, bytes, few different bytes (which overlap themselves), and lengths around what is special. Without the mask:
/// it could make a value of what is beside it.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let values = prop_oneof![
        "[A-Za-z0-9_.-]{8,60}".prop_map(String::into_bytes),
        "\\PC{8,20}".prop_map(String::into_bytes),
        vec(any::<u8>(), 1..24),
        vec(prop_oneof![Just(b'a'), Just(b'b')], 8..20),
    ];
    values.prop_filter("has the mask", |value| !value.contains(&b'*'))
}

/// What is between: noise, pieces of the value, and pieces of its encodings.
#[derive(Debug, Clone)]
enum Part {
    Noise(Vec<u8>),
    Whole(Index),
    Piece(Index, Index, Index),
    Long(Vec<u8>),
}

fn parts() -> impl Strategy<Value = Part> {
    prop_oneof![
        vec(any::<u8>(), 0..30).prop_map(Part::Noise),
        vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'*')], 0..30).prop_map(Part::Noise),
        any::<Index>().prop_map(Part::Whole),
        any::<(Index, Index, Index)>().prop_map(|(which, from, to)| Part::Piece(which, from, to)),
        vec(any::<u8>(), 0..7).prop_map(Part::Long),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_of_a_value_comes_out_and_everything_else_does(
        value in values(),
        parts in vec(parts(), 0..8),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let patterns = patterns(&value);
        let mut text = Vec::new();
        for part in parts {
            match part {
                Part::Noise(noise) => text.extend(noise),
                Part::Whole(which) => text.extend(which.get(&patterns)),
                Part::Piece(which, from, to) => {
                    let pattern = which.get(&patterns);
                    let (from, to) = (from.index(pattern.len()), to.index(pattern.len()));
                    text.extend(&pattern[from.min(to)..from.max(to)]);
                }
                Part::Long(before) => {
                    text.extend(STANDARD.encode([&before[..], &value].concat()).into_bytes());
                    text.extend(URL_SAFE_NO_PAD.encode([&value, &before[..]].concat()).into_bytes());
                }
            }
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort();
        let chunks: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();

        let scrubber = scrubber(&value);
        let (whole, hits) = scrub(&scrubber, &[&text]);
        prop_assert_eq!(&whole, &reference(&text, &patterns));
        prop_assert_eq!(scrub(&scrubber, &chunks), (whole.clone(), hits));
        for pattern in &patterns {
            prop_assert!(!holds(&whole, pattern));
        }
    }

    #[test]
    fn less_than_the_longest_encoding_is_held_back(value in values(), text in vec(any::<Index>(), 0..6)) {
        let patterns = patterns(&value);
        let longest = patterns.iter().map(Vec::len).max().unwrap();
        let text: Vec<u8> = text.iter().flat_map(|which| which.get(&patterns).clone()).collect();
        let mut stream = scrubber(&value).stream();
        let (mut pushed, mut came) = (0, 0);
        for byte in text {
            pushed += 1;
            came += stream.push(Bytes::from(vec![byte])).len();
            prop_assert!(pushed - came < longest);
        }
        prop_assert_eq!(came + stream.finish().len(), pushed);
    }
}

#[test]
fn the_longest_value_is_searched_in_reasonable_time() {
    let value: Vec<u8> = (0..8192u32).map(|i| b'!' + (i.wrapping_mul(2_654_435_761) >> 8) as u8 % 90).collect();
    let scrubber = scrubber(&value);
    let text = vec![value[0]; 1 << 20];
    let began = std::time::Instant::now();
    assert_eq!(scrub(&scrubber, &[&text]).1, 0);
    assert_eq!(scrub(&scrubber, &[&value[..8000], &value[8000..], &value]).1, 2);
    assert!(began.elapsed().as_secs() < 10);
}
