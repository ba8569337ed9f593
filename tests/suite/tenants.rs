use std::fs;

use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{Daemon, asked, for_tenant, palisade, probe, reason};

/// Two tenants, for both of which these tests' user calls.
fn two() -> String {
    let own = nix::unistd::getuid();
    ["blue", "red"].map(|name| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n")).concat()
}

async fn says(daemon: &Daemon, tenant: &str, request: v1::RunStepRequest) -> Vec<String> {
    daemon.run(for_tenant(tenant, request)).await.unwrap().outcomes()
}

async fn workspace(daemon: &Daemon, tenant: &str, id: &str) {
    let request = v1::CreateWorkspaceRequest { workspace_id: id.into(), ..Default::default() };
    daemon.workspaces().create_workspace(for_tenant(tenant, request)).await.unwrap();
}

fn inside(workspace: &str, acts: Value) -> v1::RunStepRequest {
    v1::RunStepRequest { workspace: format!("workspaces/{workspace}"), ..probe(acts) }
}

#[tokio::test]
async fn a_caller_of_several_tenants_says_for_which() {
    let daemon = Daemon::with(&two()).await;
    let unsaid = daemon.run(probe(json!([]))).await.err().unwrap();
    assert_eq!((unsaid.code(), reason(&unsaid).as_str()), (Code::InvalidArgument, "TENANT_REQUIRED"));
    assert!(unsaid.message().contains("`blue`, `red`"), "{}", unsaid.message());
    let other = daemon.run(for_tenant("green", probe(json!([])))).await.err().unwrap();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::PermissionDenied, "TENANT_NOT_ALLOWED"));
    assert!(says(&daemon, "red", probe(json!([{ "output": 1 }]))).await[0].starts_with("ok"));
    // From the shell.
    let run = |tenant: &[&str]| {
        let workspaces = ["workspace", "list", "--endpoint", &daemon.endpoint()].map(String::from);
        let ended = palisade().args(workspaces).args(tenant).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    assert_eq!(run(&["--tenant", "red"]).0, Some(0));
    let (code, error) = run(&[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("palisade-tenant"), "{error}");
}

#[tokio::test]
async fn without_tenants_in_the_configuration_there_is_one_for_everybody() {
    let daemon = Daemon::start().await;
    assert!(says(&daemon, "default", probe(json!([{ "output": 1 }]))).await[0].starts_with("ok"));
    let refused = daemon.run(for_tenant("blue", probe(json!([])))).await.err().unwrap();
    assert_eq!(reason(&refused), "TENANT_NOT_ALLOWED");
}

#[tokio::test]
async fn a_tenants_workspaces_are_its_own() {
    let daemon = Daemon::with(&two()).await;
    for (tenant, bytes) in [("blue", 11), ("red", 22)] {
        workspace(&daemon, tenant, "w").await;
        let write = json!([{ "write": { "path": "/workspace/f", "bytes": bytes } }]);
        assert!(says(&daemon, tenant, inside("w", write)).await[0].starts_with("ok"));
    }
    workspace(&daemon, "blue", "alone").await;
    let gone = daemon.run(for_tenant("red", inside("alone", json!([])))).await.err().unwrap();
    assert_eq!(reason(&gone), "WORKSPACE_NOT_FOUND");
    let listed = async |tenant| {
        let request = for_tenant(tenant, v1::ListWorkspacesRequest::default());
        let listed = daemon.workspaces().list_workspaces(request).await.unwrap().into_inner().workspaces;
        listed.iter().map(|workspace| (workspace.name.clone(), workspace.used_bytes)).collect::<Vec<_>>()
    };
    assert_eq!(listed("red").await, [("workspaces/w".to_owned(), 22)]);
    assert_eq!(listed("blue").await, [("workspaces/alone".to_owned(), 0), ("workspaces/w".to_owned(), 11)]);
    let file = v1::GetFileRequest { workspace: "workspaces/alone".into(), path: "f".into() };
    let hidden = daemon.workspaces().get_file(for_tenant("red", file)).await.err().unwrap();
    assert_eq!(reason(&hidden), "WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn a_tenants_memory_and_budget_are_its_own() {
    let memory = "permit (principal, action in [Palisade::Action::\"ReadMemory\", Palisade::Action::\"WriteMemory\"], resource);";
    let daemon = Daemon::governed(memory, &format!("{}[budgets.tenant]\nhost_calls = 3\n", two())).await;
    daemon.agent("[[memory]]\nspace = \"notes\"\nwritable = true\n").await.unwrap();
    let put = json!({ "memory-put": { "space": "notes", "key": "k", "value": "canary" } });
    let get = json!({ "memory-get": { "space": "notes", "key": "k" } });
    assert!(says(&daemon, "blue", asked(json!([put]))).await[0].starts_with("ok"));
    let red = says(&daemon, "red", asked(json!([get]))).await;
    assert!(red[0].starts_with("ok") && !red[0].contains("canary"), "{red:?}");
    assert!(says(&daemon, "blue", asked(json!([get]))).await[0].contains("canary"));
    let spent = says(&daemon, "blue", asked(json!([get, get]))).await;
    assert!(spent[1].contains("BUDGET_EXHAUSTED") && spent[1].contains("tenant `blue`"), "{spent:?}");
    assert!(says(&daemon, "red", asked(json!([get, get]))).await[1].starts_with("ok"));
}

#[tokio::test]
async fn a_job_of_one_tenant_is_not_that_of_another() {
    let daemon = Daemon::with(&two()).await;
    let job = |tenant| {
        let budget = Some(v1::Budget { fuel: Some(20_000_000_000), ..Default::default() });
        for_tenant(tenant, v1::RunStepRequest { job: "j".into(), budget, ..probe(json!([])) })
    };
    for tenant in ["blue", "red"] {
        assert_eq!(daemon.run(job(tenant)).await.unwrap().outcome(), Outcome::Succeeded);
    }
    let of = async |tenant| {
        let filter = Some(v1::RecordFilter { job: "j".into(), ..Default::default() });
        let request = v1::ListRecordsRequest { filter, page_size: 100, ..Default::default() };
        let listed = daemon.audit().list_records(for_tenant(tenant, request)).await.unwrap().into_inner().records;
        listed.iter().map(|record| serde_json::from_str::<Value>(&record.canonical).unwrap()).collect::<Vec<_>>()
    };
    for tenant in ["blue", "red"] {
        let records = of(tenant).await;
        assert_eq!(records.len(), 2, "a step and its result");
        assert!(records.iter().all(|record| record["tenant"] == tenant), "{records:?}");
    }
}

#[tokio::test]
async fn what_is_everybodys_is_not_for_a_tenants_caller() {
    if !nix::unistd::getuid().is_root() {
        return; // only root can become somebody else
    }
    let tenants = "[[tenant]]\nname = \"blue\"\ncallers = [\"unix:65534\"]\n";
    let group = "[listen]\ngroup = \"daemon\"\n";
    let daemon = Daemon::with(&format!("{group}{tenants}")).await;
    std::os::unix::fs::chown(daemon.dir.path(), None, Some(1)).unwrap();
    fs::set_permissions(daemon.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let binary = daemon.dir.path().join("palisade");
    fs::copy(palisade().get_program(), &binary).unwrap();
    let call = |arguments: &[&str]| {
        let ended = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=1", "--clear-groups"])
            .arg(&binary)
            .args(arguments)
            .args(["--endpoint", &daemon.endpoint()])
            .output()
            .unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    for allowed in
        [&["info"][..], &["component", "list"], &["workspace", "list"], &["audit", "list"], &["agent", "list"]]
    {
        assert_eq!(call(allowed), (Some(0), String::new()), "{allowed:?}");
    }
    let payload = format!("sha256:{}", "0".repeat(64));
    for denied in [
        &["policy", "reload"][..],
        &["credential", "list"],
        &["component", "delete", "probe"],
        &["audit", "payload", &payload],
        &["audit", "export"],
    ] {
        let (code, error) = call(denied);
        assert_eq!(code, Some(4), "{denied:?}: {error}");
        assert!(error.contains("CALLER_NOT_ALLOWED"), "{denied:?}: {error}");
    }
}

#[test]
fn tenants_that_cannot_be_told_apart_are_refused() {
    for (config, why) in [
        ("[[tenant]]\nname = \"default\"\ncallers = [\"loopback\"]\n", "name it otherwise"),
        ("[[tenant]]\nname = \"a\"\ncallers = []\n", "0 callers"),
        ("[[tenant]]\nname = \"a\"\ncallers = [\"unix:01\"]\n", "`unix:01`"),
        ("[[tenant]]\nname = \"a\"\ncallers = [\"root\"]\n", "`root`"),
        (
            "[[tenant]]\nname = \"a\"\ncallers = [\"loopback\"]\n[[tenant]]\nname = \"a\"\ncallers = [\"loopback\"]\n",
            "twice",
        ),
    ] {
        let error = palisade::config::parse(config).err().unwrap().to_string();
        assert!(error.contains(why), "{config}: {error}");
    }
}
