//! `palisade doctor` and `palisade info`: what this host offers, and what a daemon holds to.

use std::{
    io::{Write as _, stdout},
    process::ExitCode,
};

use palisade_proto::v1;
use serde_json::json;

use super::{Client, Common, Failure, arguments::Output, print};
use crate::{
    serve,
    wire::{Wall, WallState},
};

/// Builds the jail on this host and says which walls stand. Fails if one is missing.
pub async fn doctor(common: &Common) -> Result<ExitCode, Failure> {
    let scratch = tempfile::Builder::new().prefix("palisade-doctor-").tempdir()?;
    let walls = serve::probe(scratch.path()).await.map_err(Failure::other)?;
    let complete = walls.iter().all(|wall| wall.state != WallState::Missing);
    let walls: Vec<_> = walls.iter().collect();
    print::rows(common, &["wall", "state", "found", "remedy"], &walls, |wall: &Wall| {
        let (state, remedy) = match wall.state {
            WallState::Verified => ("verified", ""),
            WallState::NotDelegated => ("not delegated", remedy(&wall.name)),
            WallState::Missing => ("missing", remedy(&wall.name)),
        };
        let json = json!({ "wall": wall.name, "state": state, "detail": wall.detail, "remedy": remedy });
        (vec![wall.name.clone(), state.into(), wall.detail.clone(), remedy.into()], json)
    })?;
    if !complete && common.output == Output::Table {
        eprintln!("\na daemon starts on this host only if `jail.allow_missing` names every wall that is missing");
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remedy(wall: &str) -> &'static str {
    match wall {
        "user-namespace" | "network-namespace" | "mount-namespace" => {
            "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces; in a container, a seccomp profile that allows unshare and mount"
        }
        "ids" => "start the daemon as an unprivileged user, or as root that may change its user, with `jail.user`",
        "cgroup" => "delegate memory, pids and cpu to the daemon's own cgroup v2: `Delegate=yes` in its systemd unit",
        "landlock" => "Linux 6.10 or newer, with landlock among the security modules (boot with lsm=landlock,…)",
        "seccomp" => "a kernel with CONFIG_SECCOMP_FILTER",
        _ => "report this as a bug: any Linux can build this wall",
    }
}

/// Prints what the daemon is.
pub async fn info(common: &Common) -> Result<(), Failure> {
    let client = Client::connect(common, Vec::new()).await?;
    let info = client.system().get_server_info(v1::GetServerInfoRequest {}).await?.into_inner();
    match common.output {
        Output::Json => writeln!(stdout(), "{}", to_json(&info))?,
        Output::Table => {
            writeln!(stdout(), "palisade {}, {} ({})\n", info.version, info.engine, info.engine_hash)?;
            let row = |wall: &v1::Wall| {
                let state = wall.state().as_str_name().to_lowercase();
                (vec![wall.name.clone(), state, wall.detail.clone()], json!(null))
            };
            print::rows(common, &["wall", "state", "found"], &info.walls.iter().collect::<Vec<_>>(), row)?;
            writeln!(stdout())?;
            let row = |l: &v1::Limit| {
                (vec![l.name.clone(), l.unit.clone(), l.default_value.to_string(), l.maximum.to_string()], json!(null))
            };
            print::rows(
                common,
                &["limit", "unit", "default", "maximum"],
                &info.limits.iter().collect::<Vec<_>>(),
                row,
            )?;
            for mount in &info.mounts {
                writeln!(
                    stdout(),
                    "\nmount {} ({})",
                    mount.name,
                    if mount.read_only { "read-only" } else { "read-write" }
                )?;
            }
        }
    }
    client.close().await
}

fn to_json(info: &v1::ServerInfo) -> serde_json::Value {
    let walls = info.walls.iter().map(
        |wall| json!({ "name": wall.name, "state": wall.state().as_str_name().to_lowercase(), "detail": wall.detail }),
    );
    let limits = info
        .limits
        .iter()
        .map(|l| json!({ "name": l.name, "unit": l.unit, "default": l.default_value, "maximum": l.maximum }));
    let mounts = info.mounts.iter().map(|mount| json!({ "name": mount.name, "read_only": mount.read_only }));
    json!({
        "version": info.version,
        "engine": info.engine,
        "engine_hash": info.engine_hash,
        "walls": walls.collect::<Vec<_>>(),
        "limits": limits.collect::<Vec<_>>(),
        "mounts": mounts.collect::<Vec<_>>(),
    })
}
