use std::{fs, os::unix::fs::PermissionsExt as _};

use palisade_proto::v1;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{Daemon, palisade, reason};

const SECRET: &str = "canary-4f1c9b27-of-the-tracker";

/// A daemon that has the bearer `tracker-token` in a file, which the rule `tracker` lists, and two more.
async fn tracker() -> (Daemon, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let credential = |name: &str, labels: &str| {
        format!(
            "[[credential]]\nname = \"{name}\"\nlabels = [{labels}]\ntype = \"bearer\"\nsource = {{ file = {file:?} }}\n"
        )
    };
    let rule = "[[egress]]\nname = \"tracker\"\nhost = \"api.tracker.example\"\ncredentials = [\"tracker-token\"]\n";
    let [token, a, z] =
        [("tracker-token", "\"internal\""), ("a-token", ""), ("z-token", "")].map(|(n, l)| credential(n, l));
    (Daemon::with(&format!("{rule}{token}{a}{z}")).await, dir)
}

async fn get(daemon: &Daemon, name: &str) -> v1::Credential {
    let request = v1::GetCredentialRequest { name: name.into() };
    daemon.credentials().get_credential(request).await.unwrap().into_inner()
}

async fn revoke(daemon: &Daemon, name: &str) -> v1::Credential {
    let request = v1::RevokeCredentialRequest { name: name.into() };
    daemon.credentials().revoke_credential(request).await.unwrap().into_inner()
}

async fn restore(daemon: &Daemon, name: &str) -> v1::Credential {
    let request = v1::RestoreCredentialRequest { name: name.into() };
    daemon.credentials().restore_credential(request).await.unwrap().into_inner()
}

fn cli(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        palisade().arg("credential").args(arguments).args(["--endpoint", &daemon.endpoint()]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn a_credential_is_shown_with_where_it_is_kept_and_never_with_its_value() {
    let (daemon, dir) = tracker().await;
    let shown = get(&daemon, "credentials/tracker-token").await;
    assert_eq!((shown.name.as_str(), shown.r#type.as_str()), ("credentials/tracker-token", "bearer"));
    assert_eq!(shown.source, format!("file {}", dir.path().join("token").display()));
    assert_eq!(
        (shown.labels.as_slice(), shown.rules.as_slice()),
        (&["internal".to_owned()][..], &["tracker".to_owned()][..])
    );
    assert!(!shown.revoked && shown.last_attach_time.is_none() && shown.failure.is_empty());
    assert!(get(&daemon, "a-token").await.rules.is_empty());
    for arguments in
        [&["list"][..], &["list", "-o", "json"], &["show", "tracker-token"], &["show", "tracker-token", "-o", "json"]]
    {
        let (code, said) = cli(&daemon, arguments);
        assert!(code == Some(0) && said.contains("tracker-token") && said.contains("bearer"), "{said}");
        assert!(!said.contains(SECRET));
    }
    assert!(!daemon.log().contains(SECRET));
}

#[tokio::test]
async fn credentials_come_in_pages_by_name() {
    let (daemon, _dir) = tracker().await;
    let page = async |page_token: String| {
        let request = v1::ListCredentialsRequest { page_size: 2, page_token };
        daemon.credentials().list_credentials(request).await.unwrap().into_inner()
    };
    let names =
        |page: &v1::ListCredentialsResponse| page.credentials.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let first = page(String::new()).await;
    assert_eq!(names(&first), ["credentials/a-token", "credentials/tracker-token"]);
    let last = page(first.next_page_token).await;
    assert_eq!((names(&last), last.next_page_token.as_str()), (vec!["credentials/z-token".to_owned()], ""));
    let request = v1::ListCredentialsRequest { page_token: "x".into(), ..Default::default() };
    assert_eq!(reason(&daemon.credentials().list_credentials(request).await.unwrap_err()), "FIELD_INVALID");
}

#[tokio::test]
async fn a_revocation_is_recorded_once_and_survives_a_restart() {
    let (daemon, _dir) = tracker().await;
    for _ in 0..2 {
        assert!(revoke(&daemon, "tracker-token").await.revoked);
    }
    let daemon = daemon.restart().await;
    assert!(get(&daemon, "tracker-token").await.revoked && !get(&daemon, "a-token").await.revoked);
    for _ in 0..2 {
        assert!(!restore(&daemon, "credentials/tracker-token").await.revoked);
    }
    let daemon = daemon.restart().await;
    assert!(!get(&daemon, "tracker-token").await.revoked);
    let said: Vec<String> = daemon
        .records(&["credential"])
        .await
        .iter()
        .map(|record| format!("{} {}", record["body"]["change"], record["body"]["credential"]))
        .collect();
    assert_eq!(said, ["\"revoked\" \"tracker-token\"", "\"restored\" \"tracker-token\""]);
}

#[tokio::test]
async fn a_daemon_that_cannot_read_what_is_revoked_does_not_start() {
    let (mut daemon, _dir) = tracker().await;
    revoke(&daemon, "tracker-token").await;
    daemon.stop().await;
    let kept = daemon.dir.path().join("data/revoked-credentials.json");
    assert!(fs::read_to_string(&kept).unwrap().contains("tracker-token"));
    fs::write(&kept, "").unwrap();
    let config = daemon.dir.path().join("palisade.toml");
    let socket = daemon.dir.path().join("q.sock");
    let ended = palisade().args(["serve", "--config"]).arg(config).arg("--socket").arg(socket).output().unwrap();
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("does not decode"), "{ended:?}");
}

#[tokio::test]
async fn the_command_line_revokes_restores_and_tells_of_it() {
    let (daemon, _dir) = tracker().await;
    let (code, said) = cli(&daemon, &["revoke", "tracker-token"]);
    assert!(code == Some(0) && said.contains("revoked"), "{said}");
    let listed = palisade().args(["audit", "list", "--kind", "credential", "--endpoint", &daemon.endpoint()]).output();
    assert!(String::from_utf8_lossy(&listed.unwrap().stdout).contains("revoked tracker-token"));
    let (code, said) = cli(&daemon, &["restore", "tracker-token"]);
    assert!(code == Some(0) && !said.contains("revoked"), "{said}");
    let (code, said) = cli(&daemon, &["revoke", "nobody"]);
    assert!(code == Some(3) && said.contains("CREDENTIAL_NOT_FOUND"), "{said}");
    let request = v1::GetCredentialRequest { name: "tools/x".into() };
    let refused = daemon.credentials().get_credential(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CREDENTIAL_NOT_FOUND"));
}
