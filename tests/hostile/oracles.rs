//! The oracles themselves: a canary that could not see would prove nothing.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
};

use super::{
    holdings::Holdings,
    scene::{GOOD, Scene},
    sweep::{Place, sweep},
};
use crate::harness::{
    canary::Canary,
    dns::{Dns, Says},
    upstream::{Gate, Piece, Reply, Upstream},
};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[test]
fn a_canary_sees_a_connection_that_was_made_and_broken_before_it_looked() {
    let at = std::net::TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    let canary = Canary::listen(&[at]).unwrap();
    canary.must_be_untouched();
    TcpStream::connect(at).unwrap().write_all(b"secret").unwrap();
    UdpSocket::bind(ANY).unwrap().send_to(b"datagram", at).unwrap();
    drop(TcpStream::connect(at).unwrap());
    let touched: Vec<_> = canary.touched().into_iter().map(|touch| (touch.over, touch.bytes)).collect();
    assert_eq!(touched, [("tcp", b"secret".to_vec()), ("tcp", Vec::new()), ("udp", b"datagram".to_vec())]);
    canary.must_be_untouched();
}

/// Asks as a resolver does; returns the response code, the answers' count and whether it was cut off.
fn query(at: SocketAddr, name: &str, kind: u16, tcp: bool) -> Option<(u8, u16, bool, Vec<u8>)> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, kind as u8, 0, 1]);
    let mut reply = vec![0; 65_535];
    let length = if tcp {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        stream.read_exact(&mut reply[..usize::from(u16::from_be_bytes(length))]).unwrap();
        u16::from_be_bytes(length).into()
    } else {
        let socket = UdpSocket::bind(ANY).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        socket.send_to(&message, at).unwrap();
        socket.recv(&mut reply).ok()?
    };
    reply.truncate(length);
    assert_eq!(reply[..2], [0x12, 0x34]);
    Some((reply[3] & 15, u16::from_be_bytes([reply[6], reply[7]]), reply[2] & 2 != 0, reply))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_says_what_it_is_told_and_keeps_what_it_was_asked() {
    let dns = Dns::start("127.0.0.1").await;
    dns.has("a.test", &["192.0.2.7", "2001:db8::7", "192.0.2.8"]);
    dns.says_in_turn("turn.test", vec![Says::addresses(&["192.0.2.1"]), Says::Failure]);
    dns.says("quiet.test", Says::Silence);
    dns.says("long.test", Says::addresses(&["192.0.2.1"; 200]));
    dns.says("cut.test", Says::Truncated(vec!["192.0.2.1".parse().unwrap()]));
    dns.says("alias.test", Says::Aliases(vec!["b.test".into(), "c.test".into()], vec!["192.0.2.1".parse().unwrap()]));
    let ask =
        |name: &str, kind, tcp| query(dns.address, name, kind, tcp).map(|(code, count, cut, _)| (code, count, cut));
    assert_eq!(ask("a.test", 1, false), Some((0, 2, false)));
    assert_eq!(ask("A.Test", 28, true), Some((0, 1, false)));
    assert!(query(dns.address, "a.test", 1, false).unwrap().3.ends_with(&[0, 4, 192, 0, 2, 8]));
    assert_eq!(ask("none.test", 1, false), Some((3, 0, false)));
    assert_eq!(ask("turn.test", 1, false), Some((0, 1, false)));
    assert_eq!(ask("turn.test", 28, false), Some((0, 0, false)), "each type has its own turns");
    assert_eq!(ask("turn.test", 1, false), Some((2, 0, false)));
    assert_eq!(ask("quiet.test", 1, false), None);
    assert_eq!(ask("long.test", 1, false), Some((0, 0, true)));
    assert_eq!(ask("long.test", 1, true), Some((0, 200, false)));
    assert_eq!(ask("cut.test", 1, false), Some((0, 0, true)));
    assert_eq!(ask("cut.test", 1, true), Some((0, 1, false)));
    assert_eq!(ask("alias.test", 1, false), Some((0, 3, false)));
    assert!(dns.names().contains("a.test") && dns.names().contains("none.test"));
    assert_eq!(dns.queries().iter().filter(|query| query.over == "tcp").count(), 3);
}

#[tokio::test]
async fn an_upstream_keeps_every_byte_and_answers_as_it_is_told() {
    let upstream = Upstream::plain(ANY).await;
    upstream.on("/raw", |_| Reply::raw("not HTTP"));
    upstream.on("/chunks", |seen| Reply::text(seen.body.clone()).byte_by_byte().trailer("x-end", "yes"));
    let gate = Gate::new();
    let shut = gate.clone();
    upstream.on_head("/gate", move |_| {
        Reply::status(200).body(vec![
            Piece::Bytes(b"a".to_vec()),
            Piece::Wait(shut.clone()),
            Piece::Bytes(b"b".to_vec()),
        ])
    });
    let at = upstream.address;
    let talk = |text: &'static str| {
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            String::from_utf8(said).unwrap()
        })
    };
    let smuggled = "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\nGET /raw HTTP/1.1\r\nX:  y \r\n\r\n";
    let said = talk(smuggled).await.unwrap();
    assert!(said.ends_with("1\r\nh\r\n1\r\ni\r\n0\r\nx-end: yes\r\n\r\nnot HTTP"), "{said}");
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2, "a second request on the connection is seen as one");
    assert_eq!((seen[0].body.as_slice(), seen[0].complete), (&b"hi"[..], true));
    assert_eq!(seen[0].trailers, [("X-T".to_owned(), b"1".to_vec())]);
    assert_eq!(seen[1].head, b"GET /raw HTTP/1.1\r\nX:  y \r\n\r\n");
    assert_eq!(upstream.connections()[0].bytes, smuggled.as_bytes());
    let talking = talk("POST /gate HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf");
    upstream.until("the head came", |upstream| upstream.seen().len() == 3).await;
    gate.open();
    assert!(talking.await.unwrap().contains("1\r\nb\r\n"));
    upstream.until("it closed", |upstream| upstream.connections()[1].closed).await;
    assert!(!upstream.seen()[2].complete && upstream.seen()[2].body == b"half");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scene_has_its_canaries_beside_its_upstream() {
    let scene = Scene::new().await;
    assert!(scene.dns.names().is_empty() && scene.canary.touched().is_empty());
    let beside = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), scene.tls.address.port());
    drop(TcpStream::connect(beside).unwrap());
    assert_eq!(scene.canary.touched().len(), 1);
    assert!(query(scene.dns.address, GOOD, 1, true).is_some_and(|(code, count, ..)| (code, count) == (0, 1)));
}

#[tokio::test]
async fn holdings_see_what_is_left() {
    let daemon = crate::harness::Daemon::start().await;
    daemon.probe(serde_json::json!([])).await;
    let before = Holdings::of(&daemon);
    assert_eq!(Holdings::of(&daemon).is_no_more_than(&before), Ok(()));
    let data = daemon.dir.path().join("data");
    for left in ["spool/left", "tenants/default/workspaces/unknown/left"] {
        std::fs::create_dir_all(data.join(left).parent().unwrap()).unwrap();
        std::fs::write(data.join(left), "left").unwrap();
        assert!(Holdings::of(&daemon).is_no_more_than(&before).is_err_and(|why| why.contains("left")), "{left}");
        std::fs::remove_file(data.join(left)).unwrap();
    }
    let connected = std::os::unix::net::UnixStream::connect(daemon.dir.path().join("p.sock")).unwrap();
    let seen = || Holdings::of(&daemon).is_no_more_than(&before).is_err_and(|why| why.contains("descriptors"));
    crate::harness::eventually("the connection is seen", seen).await;
    drop(connected);
    crate::harness::eventually("it is gone", || Holdings::of(&daemon).is_no_more_than(&before).is_ok()).await;
    // What a daemon has now is more than nothing.
    assert_eq!(Holdings::of(&daemon).has_grown_beyond(&before, 1 << 30, 0), Vec::<String>::new());
    assert_eq!(Holdings::of(&daemon).has_grown_beyond(&Holdings::default(), 1 << 10, 0).len(), 2);
}

#[test]
fn a_sweep_finds_a_secret_in_every_form_and_place() {
    let secret = "sk-4711/planted+secret==.tail";
    let each = |form: fn(u8) -> String| secret.bytes().map(form).collect::<String>().into_bytes();
    use base64::{
        Engine as _,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("raw", secret.into()),
        ("percent", secret.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D").into()),
        ("percent", each(|byte| format!("%{byte:02x}"))),
        ("base64", BASE64_STANDARD.encode(secret).into()),
        ("base64", BASE64_STANDARD.encode(format!("user:{secret}")).into()),
        ("base64", BASE64_STANDARD.encode(format!("a:{secret}, and more")).into()),
        ("base64url", BASE64_URL_SAFE_NO_PAD.encode(format!("\u{3fb}{secret}")).into()),
        ("hex", each(|byte| format!("{byte:02X}"))),
        ("json", each(|byte| format!("\\u{byte:04x}"))),
        ("utf-16", secret.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("reversed", secret.bytes().rev().collect()),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (encoding, bytes) in forms {
        let hits = sweep(&[secret], [Place::Buffer("here".into(), [b"before ", &bytes[..], b" after"].concat())]).hits;
        assert!(
            hits.iter().any(|hit| hit.encoding.starts_with(&encoding[..3]) && hit.offset >= 7),
            "{encoding}: {hits:?}"
        );
        // Also where one block ends and the next begins.
        let file = dir.path().join("file");
        std::fs::write(&file, [&vec![b'.'; (4 << 20) - 5][..], &bytes].concat()).unwrap();
        let hits = sweep(&[secret], [Place::File(file)]).hits;
        assert!(hits.iter().any(|hit| hit.offset >= (4 << 20) - 5), "{encoding}: {hits:?}");
    }
    assert_eq!(sweep(&[secret], [Place::Buffer("here".into(), b"sk-4711/planted+secret==.tai".to_vec())]).hits, []);
}

#[test]
fn a_sweep_reads_the_memory_of_a_process() {
    let secret = format!("in-memory-{}-{}", std::process::id(), 31_415);
    // A pipe that nobody writes to, so that who reads it waits.
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Somebody else's memory: a shell that holds it in a variable, and says so.
    let mut child = std::process::Command::new("sh")
        .args(["-c", "held=$(cat /dev/fd/0 | head -n 1); echo ready; exec 0<&-; read never < \"$1\"", "sh"])
        .arg(&pipe)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{secret}").unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready).unwrap();
    let swept = sweep(&[&secret], [Place::Memory(child.id() as i32)]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ready, "ready\n");
    assert!(swept.hits.iter().any(|hit| hit.place.contains("[heap]")) || !swept.unreadable.is_empty(), "{swept:?}");
    assert_eq!(sweep(&[&secret], [Place::Memory(i32::MAX)]).unreadable.len(), 1);
}
