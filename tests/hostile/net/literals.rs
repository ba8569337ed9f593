//! NET-01: addresses in every spelling, in the authority and in a name server's answer.

use std::net::Ipv4Addr;

use super::{
    super::{
        ask::Ask,
        rig::Why,
        scene::{AIMS, GOOD, Scene},
        table::{Row, hold},
    },
    NEVER, get,
};

/// Every spelling of an IPv4 address but the plain one.
fn spellings(address: Ipv4Addr) -> Vec<(&'static str, String)> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let (ab, cd) = (number >> 16, number & 0xffff);
    let wide: String = format!("{a}.{b}.{c}.{d}")
        .chars()
        .map(|c| if c == '.' { '\u{ff0e}' } else { char::from_u32(c as u32 - 0x30 + 0xff10).unwrap() })
        .collect();
    vec![
        ("decimal", number.to_string()),
        ("hexadecimal", format!("{number:#x}")),
        ("hexadecimal in upper case", format!("0X{number:X}")),
        ("octal", format!("0{number:o}")),
        ("two parts", format!("{a}.{}", number & 0xff_ffff)),
        ("three parts", format!("{a}.{b}.{cd}")),
        ("hexadecimal parts", format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}")),
        ("octal parts", format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}")),
        ("long octal parts", format!("000{a:o}.{b}.{c}.{d}")),
        ("one hexadecimal part", format!("{a}.{b}.{c}.{d:#x}")),
        ("a hexadecimal pair", format!("{ab:#x}.{cd}")),
        ("beyond 32 bits", (u64::from(number) + (1 << 32)).to_string()),
        ("beyond 8 bits", format!("{}.{b}.{c}.{d}", u16::from(a) + 256)),
        ("five parts", format!("{a}.{b}.{c}.{d}.0")),
        ("a dot behind", format!("{a}.{b}.{c}.{d}.")),
        ("a dot in front", format!(".{a}.{b}.{c}.{d}")),
        ("percent-encoded", format!("%3{}{}.{b}.{c}.{d}", a / 100, a % 100)),
        ("fullwidth", wide),
        ("ideographic dots", format!("{a}\u{3002}{b}\u{3002}{c}\u{3002}{d}")),
        ("bracketed", format!("[{a}.{b}.{c}.{d}]")),
        ("mapped", format!("[::ffff:{a}.{b}.{c}.{d}]")),
        ("mapped in hexadecimal", format!("[::ffff:{ab:x}:{cd:x}]")),
        ("mapped in full", format!("[0:0:0:0:0:ffff:{ab:x}:{cd:x}]")),
        ("compatible", format!("[::{a}.{b}.{c}.{d}]")),
        ("translated", format!("[64:ff9b::{ab:x}:{cd:x}]")),
        ("translated locally", format!("[64:ff9b:1::{ab:x}:{cd:x}]")),
        ("6to4", format!("[2002:{ab:x}:{cd:x}::1]")),
        ("Teredo", format!("[2001:0:{ab:x}:{cd:x}::{:x}:{:x}]", !ab & 0xffff, !cd & 0xffff)),
        ("ISATAP", format!("[2606:2800:220:1:0:5efe:{ab:x}:{cd:x}]")),
        ("a name that says so", format!("{a}.{b}.{c}.{d}.nip.test")),
    ]
}

#[tokio::test]
async fn net_01_an_address_is_no_way_around_a_name_in_any_spelling() {
    let scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    let rules = scene.rule("name", GOOD, "") + &scene.rule("address", &own, "");
    let rig = scene.rig(rules).await;
    let mut rows = vec![
        Row::control("by name", get(&scene, GOOD, "/")),
        // Listed, and spelt as everybody does.
        Row::control("by address", get(&scene, &own, "/")),
        Row::refused("a zone", get(&scene, "[fe80::1%25lo]", "/"), NEVER),
        Row::refused("a bare zone", get(&scene, "[::1%lo]", "/"), NEVER),
        Row::refused("no brackets", get(&scene, "::1", "/"), NEVER),
        Row::refused("one bracket", get(&scene, "[::1", "/"), NEVER),
        Row::refused("a future address", get(&scene, "[v1.fe80::a]", "/"), NEVER),
        Row::refused("localhost", get(&scene, "localhost", "/"), NEVER),
        Row::refused("unspecified", get(&scene, "0.0.0.0", "/"), NEVER),
        Row::refused("zero", get(&scene, "0", "/"), NEVER),
        Row::refused("unspecified, six", get(&scene, "[::]", "/"), NEVER),
        Row::refused("broadcast", get(&scene, "255.255.255.255", "/"), NEVER),
    ];
    for target in [own.as_str(), "127.0.0.1", "169.254.169.254"] {
        for (spelling, host) in spellings(target.parse().unwrap()) {
            rows.push(Row::refused(format!("{target}, {spelling}"), get(&scene, &host, "/"), NEVER));
        }
    }
    for aim in AIMS {
        let host = if aim.contains(':') { format!("[{aim}]") } else { (*aim).to_owned() };
        rows.push(Row::refused(format!("{aim}, plain"), get(&scene, &host, "/"), NEVER));
        rows.push(Row::refused(
            format!("{aim}, plain, in the clear"),
            Ask::new("GET", "http", &scene.clear_at(&host), "/latest/meta-data/"),
            NEVER,
        ));
    }
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn net_01_a_name_is_no_way_to_an_address_that_is_special() {
    let mut scene = Scene::new().await;
    let rules = scene.rule("name", GOOD, "") + &scene.rule("wild", "*.wild.test", "");
    let rig = scene.rig(rules + &scene.clear_rule("clear", "*.wild.test", "")).await;
    let mut rows = vec![Row::control("a good address", get(&scene, "good.wild.test", "/"))];
    let own = scene.tls.address.ip().to_string();
    scene.dns.has("good.wild.test", &[&own]);
    scene.allow_name("good.wild.test");
    let more = [
        "0.0.0.0",
        "0.0.0.1",
        "127.1.1.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "ff05::2",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "2001:0:a9fe:a9fe::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8:1::1",
        "2606:2800:220:1:200:5efe:169.254.169.254",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ];
    for (index, aim) in AIMS.iter().chain(&more).enumerate() {
        let name = format!("a{index}.wild.test");
        scene.dns.has(&name, &[aim]);
        scene.allow_name(&name);
        let why = &[Why::Address];
        rows.push(Row::refused(format!("{aim} by name"), get(&scene, &name, "/"), why));
        let clear = Ask::new("GET", "http", &scene.clear_at(&name), "/latest/meta-data/");
        rows.push(Row::refused(format!("{aim} by name in the clear"), clear, why));
    }
    hold(&scene, &rig, rows).await;
}
