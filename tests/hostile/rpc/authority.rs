//! Who may call what. The methods are those of the contract itself: one that is added later is nobody's but the daemon's
//! own user's until it is listed here, and there.

use std::{collections::BTreeSet, os::unix::net::UnixStream as StdUnixStream, path::Path};

use futures::{
    future::join_all,
    stream::{self, StreamExt as _},
};
use nix::unistd::{geteuid, getuid};
use palisade_proto::v1;
use prost::Message as _;
use tokio::net::{TcpStream, UnixStream};

use super::{
    super::siege::{SLOTS, Siege},
    messages::{Ask, Reply, ask, message, methods, send_over},
};
use crate::harness::{Daemon, palisade, reason};

/// gRPC's PERMISSION_DENIED.
const DENIED: Reply = Reply::Grpc(7);

/// What a tenant's callers may call, and whether it concerns what is the tenant's own.
const TENANTS: [(&str, bool); 20] = [
    ("Agents/GetAgent", false),
    ("Agents/ListAgents", false),
    ("Audit/GetCheckpoint", false),
    ("Audit/ListRecords", true),
    ("Audit/ProveConsistency", false),
    ("Audit/ProveInclusion", false),
    ("Audit/StreamRecords", true),
    ("Components/GetComponent", false),
    ("Components/ListComponents", false),
    ("Policies/ExplainDecision", false),
    ("Steps/RunStep", true),
    ("System/GetServerInfo", false),
    ("Tools/GetTool", false),
    ("Tools/ListTools", false),
    ("Workspaces/CreateWorkspace", true),
    ("Workspaces/DeleteWorkspace", true),
    ("Workspaces/GetFile", true),
    ("Workspaces/ListFiles", true),
    ("Workspaces/ListWorkspaces", true),
    ("Workspaces/PutFile", true),
];

/// A user who has nothing to do with the daemon.
const STRANGER: u32 = 65_534;

fn short(method: &str) -> &str {
    method.trim_start_matches("/palisade.v1.")
}

/// Returns a request that says nothing. One for a stream that never ends says what is refused.
fn empty(method: &str) -> Ask {
    let before_the_first = v1::StreamRecordsRequest { after: -1, ..Default::default() };
    let body = if short(method) == "Audit/StreamRecords" { before_the_first.encode_to_vec() } else { Vec::new() };
    ask(method, message(&body))
}

/// Sends all, some at once, each over a TCP connection of its own.
async fn over_tcp(address: &str, asks: Vec<(String, Ask)>) -> Vec<(String, Reply)> {
    let replied = stream::iter(asks).map(|(name, ask)| async move {
        match TcpStream::connect(address).await {
            Ok(stream) => (name, send_over(stream, ask).await),
            Err(_) => (name, Reply::Reset),
        }
    });
    replied.buffer_unordered(8).collect().await
}

/// Connects as another user: the kernel tells the daemon who the thread was that connected.
fn connect_as(uid: u32, socket: &Path) -> StdUnixStream {
    let socket = socket.to_owned();
    let connected = std::thread::spawn(move || {
        // SAFETY: changes this thread's user and no memory; the thread ends with it.
        let became = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
        assert_eq!(became, 0);
        StdUnixStream::connect(socket).unwrap()
    });
    let stream = connected.join().unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_08_no_method_serves_who_may_not_call_it() {
    let own = getuid();
    let config = format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\n[[tenant]]\nname = \"ours\"\ncallers = [\"loopback\"]\n\
         [[tenant]]\nname = \"theirs\"\ncallers = [\"unix:{own}\"]\n"
    );
    let daemon = Daemon::with(&format!("{config}[limits]\nconcurrent_steps = {SLOTS}\n")).await;
    let mut siege = Siege::beside(daemon, "theirs", "theirs").await;
    let address = siege.daemon.addresses[1].strip_prefix("http://").unwrap().to_owned();
    let methods = methods();
    let known: BTreeSet<_> = methods.iter().map(|method| short(method).to_owned()).collect();
    assert!(TENANTS.iter().all(|(method, _)| known.contains(*method)), "a method that is none is listed");

    let asks = methods.iter().map(|method| (method.clone(), empty(method))).collect();
    for (method, reply) in over_tcp(&address, asks).await {
        let may = TENANTS.iter().any(|(listed, _)| *listed == short(&method));
        let right = (reply != DENIED) == may && !matches!(reply, Reply::Reset | Reply::Nothing);
        siege.judge(&format!("{method}: a tenant's caller"), right.then_some(()).ok_or(format!("{reply:?}")));
    }
    // Whether there is such a tenant is nobody's business.
    for tenant in ["theirs", "nobodys"] {
        let asks = TENANTS.iter().filter(|(_, own)| *own).map(|(method, _)| {
            let mut ask = empty(&format!("/palisade.v1.{method}"));
            ask.headers.push(("palisade-tenant", tenant.into()));
            (format!("{method}: as tenant {tenant}"), ask)
        });
        for (name, reply) in over_tcp(&address, asks.collect()).await {
            siege.judge(&name, (reply == DENIED).then_some(()).ok_or(format!("{reply:?}")));
        }
    }
    if geteuid().is_root() {
        strangers(&mut siege, &methods).await;
    }
    siege.lift(0).await;
}

/// A user who may not call is told nothing, whatever the mode of the socket's file, and also by what comes with libraries.
async fn strangers(siege: &mut Siege, methods: &[String]) {
    let open = |path: &Path| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let socket = siege.daemon.dir.path().join("p.sock");
    open(siege.daemon.dir.path()).unwrap();
    open(&socket).unwrap();
    let others = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/palisade.v1.Nothing/Nothing",
    ];
    for method in methods.iter().map(String::as_str).chain(others) {
        let stream = UnixStream::from_std(connect_as(STRANGER, &socket)).unwrap();
        let reply = send_over(stream, empty(method)).await;
        siege.judge(&format!("{method}: a stranger"), (reply == DENIED).then_some(()).ok_or(format!("{reply:?}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_10_nothing_listens_that_nobody_asked_for() {
    let mut siege = Siege::lay("").await;
    siege.judge("one socket", (siege.daemon.addresses.len() == 1).then_some(()).ok_or("more".into()));
    let listening = listening(siege.daemon.child.id());
    siege.judge("no port", listening.is_empty().then_some(()).ok_or(format!("{listening:?}")));
    for key in ["tcp", "metrics"] {
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "192.0.2.1:0", "[2001:db8::1]:0", "[::ffff:10.0.0.1]:0"] {
            let config = siege.daemon.dir.path().join("open.toml");
            std::fs::write(&config, format!("[listen]\n{key} = \"{address}\"\n")).unwrap();
            let checked = palisade().args(["config", "check"]).arg(&config).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            let refused = !checked.status.success() && said.contains("only loopback");
            siege.judge(&format!("{key} = {address}"), refused.then_some(()).ok_or(said));
        }
    }
    siege.lift(0).await;
}

/// Returns the local addresses on which a process listens, as the kernel writes them.
fn listening(process: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let links: BTreeSet<_> = links.filter_map(|link| std::fs::read_link(link.path()).ok()).collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        for line in std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default().lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            // State 0A is LISTEN; the tenth field is the inode.
            if fields.get(3) == Some(&"0A") && links.contains(Path::new(&format!("socket:[{}]", fields[9]))) {
                found.push(fields[1].to_owned());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_11_who_asks_fifty_times_at_once_gets_one_hold() {
    let mut siege = Siege::lay("").await;
    let order = |scope: &str, reason: &str| v1::ImposeHoldRequest {
        action: v1::hold::Action::Kill.into(),
        scope: scope.into(),
        reason: reason.into(),
        request_id: "once".into(),
        ..Default::default()
    };
    let control = siege.daemon.control();
    let impose = async |order| {
        let imposed = control.clone().impose_hold(order).await?;
        Ok::<_, tonic::Status>(imposed.into_inner().hold.unwrap_or_default().name)
    };
    let imposed = join_all((0..50).map(|_| impose(order("tools/one", "drill")))).await;
    let first = imposed[0].clone().unwrap_or_default();
    for (n, name) in imposed.into_iter().enumerate() {
        let same = name.as_ref().is_ok_and(|name| !name.is_empty() && *name == first);
        siege.judge(&format!("the same, {n}"), same.then_some(()).ok_or(format!("{name:?}, and first {first}")));
    }
    for other in [order("tools/two", "drill"), order("jobs/one", "drill"), order("node", "drill")] {
        let refused = impose(other).await.map_err(|status| reason(&status));
        let right = refused == Err("REQUEST_ID_USED".to_owned());
        siege.judge("the id of another hold", right.then_some(()).ok_or(format!("{refused:?}")));
    }
    let listed = siege.daemon.control().list_holds(v1::ListHoldsRequest::default()).await.unwrap().into_inner();
    let one = listed.holds.len() == 1 && listed.holds[0].name == first;
    siege.judge("one hold", one.then_some(()).ok_or(format!("{:?}", listed.holds)));
    siege.lift(0).await;
}
